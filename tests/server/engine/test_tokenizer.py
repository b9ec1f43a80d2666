import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from masking import Base, Features, InputTooLongError, LoadedTask, TaskInput, TextInput
from server.engine.tokenizer import TokenizerStage
from tests.support.server_parts import PAIR, SINGLE, features, loaded

PATIENCE = 20.0


class Spelling:
    """A codec with one token per letter; it waits until it is let through."""

    def __init__(self) -> None:
        self.entered, self.open = Event(), Event()
        self.calls: list[list[str]] = []

    def encode(self, inputs: Sequence[TaskInput], *, truncate: bool) -> list[Features]:
        texts = [item.text for item in inputs if isinstance(item, TextInput)]
        self.calls.append(texts)
        self.entered.set()
        assert self.open.wait(PATIENCE)
        for index, text in enumerate(texts):
            if len(text) > 9 and not truncate:
                raise InputTooLongError(len(text), 9, index=index)
        return [features(len(text)) for text in texts]

    def task(self, spec: object = SINGLE) -> LoadedTask:
        return cast(LoadedTask, SimpleNamespace(spec=spec, codec=self))


@contextmanager
def _stage() -> Iterator[TokenizerStage]:
    stage = TokenizerStage()
    try:
        yield stage
    finally:
        stage.close()


Ask = Callable[..., asyncio.Task[Sequence[Features]]]


async def _behind(stage: TokenizerStage, codec: Spelling, ask: Callable[[Ask], None]) -> list[Any]:
    """Tokens of requests that come while the thread is busy with another one."""
    calls: list[asyncio.Task[Sequence[Features]]] = []

    def submit(*texts: str, task: LoadedTask | None = None, truncate: bool = False) -> Any:
        inputs = [TextInput(text) for text in texts]
        calls.append(asyncio.create_task(stage.encode(task or codec.task(), inputs, truncate=truncate)))
        return calls[-1]

    submit("first")
    assert await asyncio.to_thread(codec.entered.wait, PATIENCE)
    ask(submit)
    await asyncio.sleep(0)
    codec.open.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [r if isinstance(r, BaseException) else [item.tokens for item in r] for r in results[1:]]


def test_what_waits_is_tokenised_in_one_call() -> None:
    codec = Spelling()

    def ask(submit: Ask) -> None:
        submit("ab", "abc")
        submit("a", task=codec.task())  # another task, tokenised alike

    with _stage() as stage:
        assert asyncio.run(_behind(stage, codec, ask)) == [[2, 3], [1]]
    assert codec.calls == [["first"], ["ab", "abc", "a"]]


def test_what_is_tokenised_otherwise_is_a_call_of_its_own() -> None:
    codec = Spelling()

    def ask(submit: Ask) -> None:
        submit("ab")
        submit("abc", task=codec.task(PAIR))
        submit("abcd", truncate=True)

    with _stage() as stage:
        assert asyncio.run(_behind(stage, codec, ask)) == [[2], [3], [4]]
    assert codec.calls == [["first"], ["ab"], ["abc"], ["abcd"]]


def test_a_bad_input_fails_its_own_request_under_its_own_index() -> None:
    codec = Spelling()

    def ask(submit: Ask) -> None:
        submit("ab", "abc")
        submit("a", "much too long")

    with _stage() as stage:
        good, bad = asyncio.run(_behind(stage, codec, ask))
    assert good == [2, 3]
    assert isinstance(bad, InputTooLongError)
    assert bad.index == 1


def test_a_cancelled_request_is_not_tokenised() -> None:
    codec = Spelling()

    async def leave(stage: TokenizerStage) -> None:
        first = asyncio.create_task(stage.encode(codec.task(), [TextInput("first")], truncate=False))
        assert await asyncio.to_thread(codec.entered.wait, PATIENCE)
        gone = asyncio.create_task(stage.encode(codec.task(), [TextInput("gone")], truncate=False))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        codec.open.set()
        await first
        await stage.encode(codec.task(), [TextInput("last")], truncate=False)

    with _stage() as stage:
        asyncio.run(leave(stage))
    assert codec.calls == [["first"], ["last"]]


def test_tasks_that_share_a_call_get_what_each_would_get_alone(base: Base) -> None:
    tasks = [loaded(base, SINGLE, seed=seed) for seed in range(3)]
    inputs = [[TextInput("the movie was good")], [TextInput("no"), TextInput("a card")], [TextInput("yes")]]

    async def ask(stage: TokenizerStage) -> list[Sequence[Features]]:
        calls = [stage.encode(t, i, truncate=False) for t, i in zip(tasks, inputs, strict=True)]
        return await asyncio.gather(*calls)

    with _stage() as stage:
        together = asyncio.run(ask(stage))
    alone = [t.codec.encode(i, truncate=False) for t, i in zip(tasks, inputs, strict=True)]
    assert together == alone
