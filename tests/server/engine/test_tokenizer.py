import asyncio
import ctypes
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, enumerate
from types import SimpleNamespace
from typing import Any, cast

import pytest

from masking import (
    Base,
    ChoiceInput,
    Features,
    InputLimits,
    InputTooLongError,
    LoadedTask,
    TaskInput,
    TaskInputError,
    TextInput,
    WordsInput,
)
from masking.tasks import token_classification, tokenizing
from masking.tasks.tokenizing import STEP_CHARACTERS, Steps
from server.engine.batch import BatchLimits
from server.engine.tokenizer import TokenizerStage
from server.errors import QueueFullError, ServerError, ShuttingDownError
from tests.support.server_parts import CHOICE, PAIR, SINGLE, TAGS, features, limits, loaded
from tests.support.serving import wait_until

PATIENCE = 20.0
Call = asyncio.Task[Sequence[Features]]


class Turns:
    """A codec that takes a whole turn for each letter of a text; it waits until it is let through."""

    def __init__(self) -> None:
        self.entered, self.open = Event(), Event()
        self.read: list[str] = []

    def encode_steps(
        self, inputs: Sequence[TaskInput], *, truncate: bool, limits: InputLimits
    ) -> Steps[list[Features]]:
        texts = [item.text for item in inputs if isinstance(item, TextInput)]
        for letter in "".join(texts):
            self.read.append(letter)
            self.entered.set()
            assert self.open.wait(PATIENCE)
            yield STEP_CHARACTERS
        return [features(len(text)) for text in texts]

    @property
    def task(self) -> LoadedTask:
        return cast(LoadedTask, SimpleNamespace(spec=SINGLE, codec=self, copies=1))


class Failing(Turns):
    """A codec that raises in its first step."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def encode_steps(
        self, inputs: Sequence[TaskInput], *, truncate: bool, limits: InputLimits
    ) -> Steps[list[Features]]:
        yield 1
        raise self.error


@contextmanager
def _stage(
    batch: BatchLimits | None = None, *, threads: int = 1, most_characters: int = 100
) -> Iterator[TokenizerStage]:
    stage = TokenizerStage(batch or limits(), threads=threads, most_characters=most_characters)
    stage.start()
    try:
        yield stage
    finally:
        stage.close()
        assert all(thread.join(PATIENCE) for thread in stage.threads)


def _ask(stage: TokenizerStage, task: LoadedTask, *texts: str) -> Coroutine[Any, Any, Sequence[Features]]:
    return stage.encode(task, [TextInput(text) for text in texts], truncate=False)


async def _begin(stage: TokenizerStage, codec: Turns, text: str) -> Call:
    """Ask with a text, and wait until its first letter is being read."""
    call = asyncio.create_task(_ask(stage, codec.task, text))
    assert await asyncio.to_thread(codec.entered.wait, PATIENCE)
    return call


def test_the_request_of_which_least_was_read_has_the_next_turn() -> None:
    codec = Turns()

    async def ask(stage: TokenizerStage) -> list[int]:
        calls = [await _begin(stage, codec, "aaaa")]
        calls += [asyncio.create_task(_ask(stage, codec.task, text)) for text in ("bb", "c")]
        await asyncio.sleep(0)
        codec.open.set()
        return [item.tokens for one in await asyncio.gather(*calls) for item in one]

    with _stage() as stage:
        assert asyncio.run(ask(stage)) == [4, 2, 1]
    assert "".join(codec.read) == "abcabaa"


def test_as_many_requests_as_threads_are_read_at_once() -> None:
    first, second = Turns(), Turns()

    async def ask(stage: TokenizerStage) -> None:
        calls = [await _begin(stage, codec, "a") for codec in (first, second)]
        first.open.set()
        second.open.set()
        await asyncio.gather(*calls)

    with _stage(threads=2) as stage:
        asyncio.run(ask(stage))


def test_what_nobody_waits_for_is_read_no_further() -> None:
    codec = Turns()

    async def leave(stage: TokenizerStage) -> None:
        first = await _begin(stage, codec, "aaaa")
        second = asyncio.create_task(_ask(stage, codec.task, "bbbb"))
        await asyncio.sleep(0)
        for call in (first, second):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert stage.characters == 0
        codec.open.set()
        await _ask(stage, codec.task, "c")

    with _stage() as stage:
        asyncio.run(leave(stage))
    assert codec.read == ["a", "c"]


class Panic(BaseException):
    """What the tokenizers library raises if it fails within: no Exception."""


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (ValueError("x"), ValueError),
        (MemoryError(), MemoryError),
        (StopIteration(), RuntimeError),
        (Panic(), ServerError),
        (SystemExit(), ServerError),
    ],
)
def test_whatever_a_codec_raises_is_an_answer(raised: BaseException, error: type[Exception]) -> None:
    after = Turns()
    after.open.set()

    async def ask(stage: TokenizerStage) -> None:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(error):
                await _ask(stage, Failing(raised).task, "a")
            await _ask(stage, after.task, "a")

    with _stage() as stage:
        asyncio.run(ask(stage))
        assert [thread.restarts for thread in stage.threads] == [0]


def test_more_characters_than_may_wait_are_refused_unless_they_come_alone() -> None:
    codec = Turns()

    async def ask(stage: TokenizerStage) -> None:
        first = await _begin(stage, codec, "a" * 9)
        with pytest.raises(QueueFullError, match="9 characters wait to be tokenised and the limit is 8"):
            await _ask(stage, codec.task, "b")
        waiting = asyncio.create_task(
            stage.encode(codec.task, [TextInput("c")], truncate=False, patient=True)
        )
        await asyncio.sleep(0)
        assert stage.characters == 10
        codec.open.set()
        await asyncio.gather(first, waiting)
        assert stage.characters == 0
        await _ask(stage, codec.task, "d")

    with _stage(most_characters=8) as stage:
        asyncio.run(ask(stage))


def test_a_killed_thread_is_started_again_and_what_waits_is_answered() -> None:
    codec = Turns()
    codec.open.set()
    with _stage() as stage:
        wait_until(lambda: stage.ready)
        (victim,) = (thread for thread in enumerate() if thread.name == "tokenizer 1")
        assert victim.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(victim.ident), ctypes.py_object(SystemExit))
        with stage._changed:
            stage._changed.notify()  # a thread dies as soon as it runs
        wait_until(lambda: not stage.ready)
        (item,) = asyncio.run(_ask(stage, codec.task, "abc"))
        assert item.tokens == 3
        assert [thread.restarts for thread in stage.threads] == [1]


def test_closing_fails_what_waits_and_what_comes() -> None:
    codec = Turns()

    async def close(stage: TokenizerStage) -> None:
        first = await _begin(stage, codec, "aa")
        second = asyncio.create_task(_ask(stage, codec.task, "b"))
        await asyncio.sleep(0)
        stage.close()
        codec.open.set()
        for call in (first, second, _ask(stage, codec.task, "c")):
            with pytest.raises(ShuttingDownError):
                await call

    with _stage() as stage:
        asyncio.run(close(stage))
    assert codec.read == ["a"]


@pytest.mark.parametrize(
    ("spec", "item", "error", "said"),
    [
        (
            SINGLE,
            TextInput("the " * 500_000),
            InputTooLongError,
            "tokens or more and this task takes at most 32",
        ),
        (
            SINGLE,
            TextInput(" " * 500_000 + "a"),
            InputTooLongError,
            "500001 characters and .* at most 131072",
        ),
        (PAIR, TextInput("a", "the " * 500_000), InputTooLongError, "tokens or more"),
        (CHOICE, ChoiceInput("a", ("the " * 500_000, "b")), InputTooLongError, "tokens or more"),
        (CHOICE, ChoiceInput("a", ("the " * 250,) * 2000), TaskInputError, "2000 choices .* at most 256"),
        (TAGS, WordsInput(("a",) * 390_000), TaskInputError, "390000 tokens .* at most 8192"),
        (TAGS, WordsInput(("x" * 100,) * 8000), TaskInputError, r"82\d\d tokens .* at most 8192"),
    ],
)
def test_what_is_too_large_is_refused_with_little_work(
    base: Base, monkeypatch: pytest.MonkeyPatch, spec: Any, item: TaskInput, error: type[Exception], said: str
) -> None:
    """Work is counted in characters that the tokenizer was given."""
    task = loaded(base, spec)
    counted = _count_characters(monkeypatch)
    with (
        _stage(limits(rows=256, tokens=8192), most_characters=1) as stage,
        pytest.raises(error, match=said),
    ):
        asyncio.run(stage.encode(task, [item], truncate=False))
    assert sum(counted) < 400_000
    assert max(counted, default=0) <= 131_072


@pytest.mark.parametrize(
    ("spec", "item"),
    [
        (SINGLE, TextInput("the movie " * 200_000)),
        (SINGLE, TextInput("中文" * 500_000)),
        (PAIR, TextInput("the movie " * 200_000, "a " * 500_000)),
        (CHOICE, ChoiceInput("the " * 100_000, ("good " * 9, "a movie " * 100_000))),
    ],
)
def test_what_is_cut_is_not_read_to_its_end(
    base: Base, monkeypatch: pytest.MonkeyPatch, spec: Any, item: TaskInput
) -> None:
    task = loaded(base, spec)
    counted = _count_characters(monkeypatch)
    with _stage(limits(rows=256, tokens=8192)) as stage:
        (cut,) = asyncio.run(stage.encode(task, [item], truncate=True))
    assert cut.truncated
    assert cut.longest == 32
    assert sum(counted) < 400_000


def _count_characters(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The characters of each call of the tokenizer from now on."""
    counted: list[int] = []
    real = tokenizing.encode_texts

    def encode_texts(tokenizer: Any, texts: Sequence[str]) -> Any:
        counted.append(sum(map(len, texts)))
        return real(tokenizer, texts)

    for module in (tokenizing, token_classification):
        monkeypatch.setattr(module, "encode_texts", encode_texts)
    return counted
