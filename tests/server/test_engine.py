import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from threading import Event, get_ident

import numpy as np
import pytest

from masking import Features, LoadedTask
from server.batching import Floats, Outcome
from server.engine import BatchReport, Compute, Engine
from server.errors import (
    BackendFailedError,
    InvalidBodyError,
    NotReadyError,
    QueueFullError,
    ShuttingDownError,
    UnhealthyError,
)
from tests.server.parts import features, limits, only_digest

PATIENCE = 20.0
TASK = only_digest("a")


def _lengths(_task: LoadedTask, inputs: Sequence[Features]) -> Sequence[Floats]:
    """Answers each input with its number of tokens."""
    return [np.array([item.tokens], dtype=np.float32) for item in inputs]


@contextmanager
def _running(engine: Engine) -> Iterator[Engine]:
    engine.start()
    assert engine.wait_ready(PATIENCE)
    try:
        yield engine
    finally:
        engine.close(PATIENCE)


def _values(outcome: Outcome) -> list[float]:
    return [float(logits[0]) for logits in outcome.logits]


class Gate:
    """A compute that waits until it is let through."""

    def __init__(self) -> None:
        self.entered, self.open = Event(), Event()
        self.computed: list[int] = []

    def __call__(self, task: LoadedTask, inputs: Sequence[Features]) -> Sequence[Floats]:
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.computed.extend(item.tokens for item in inputs)
        return _lengths(task, inputs)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, PATIENCE)


class Failing:
    """A compute that raises once for an input of one token."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, task: LoadedTask, inputs: Sequence[Features]) -> Sequence[Floats]:
        if any(item.tokens == 1 for item in inputs):
            raise self.error
        return _lengths(task, inputs)


def test_answers_come_in_the_order_of_the_inputs() -> None:
    with _running(Engine(_lengths, limits(rows=2))) as engine:
        outcome = asyncio.run(engine.run(TASK, [features(n) for n in (7, 2, 9, 4)]))
    assert _values(outcome) == [7, 2, 9, 4]
    assert outcome.queue_seconds >= 0
    assert outcome.compute_seconds >= 0


def test_every_one_of_many_requests_gets_its_own_answer() -> None:
    async def ask(engine: Engine) -> list[Outcome]:
        asked = [engine.run(only_digest("ab"[n % 2]), [features(n), features(n + 1)]) for n in range(1, 41)]
        return await asyncio.gather(*asked)

    with _running(Engine(_lengths, limits(rows=7))) as engine:
        outcomes = asyncio.run(ask(engine))
    assert [_values(outcome) for outcome in outcomes] == [[n, n + 1] for n in range(1, 41)]


def test_one_prepared_thread_computes() -> None:
    seen: list[tuple[str, int]] = []

    def compute(task: LoadedTask, inputs: Sequence[Features]) -> Sequence[Floats]:
        seen.append(("compute", get_ident()))
        return _lengths(task, inputs)

    engine = Engine(compute, limits(), prepare=lambda: seen.append(("prepare", get_ident())))
    with _running(engine):
        for _ in range(3):
            asyncio.run(engine.run(TASK, [features(2)]))
    assert [what for what, _ in seen] == ["prepare", "compute", "compute", "compute"]
    assert len({thread for _, thread in seen}) == 1
    assert get_ident() not in {thread for _, thread in seen}


def test_requests_before_the_start_are_refused() -> None:
    engine = Engine(_lengths, limits())
    assert not engine.ready
    with pytest.raises(NotReadyError):
        asyncio.run(engine.run(TASK, [features(2)]))


def test_what_the_queue_refuses_is_refused() -> None:
    gate = Gate()

    async def ask(engine: Engine) -> None:
        with pytest.raises(InvalidBodyError):
            await engine.run(TASK, [features(2)] * 4)
        first = asyncio.create_task(engine.run(TASK, [features(2)]))
        await gate.reached()
        waiting = asyncio.create_task(engine.run(TASK, [features(2)] * 3))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await engine.run(TASK, [features(2)])
        gate.open.set()
        await asyncio.gather(first, waiting)

    with _running(Engine(gate, limits(waiting=3))) as engine:
        asyncio.run(ask(engine))


def test_a_failed_batch_fails_its_own_requests_only(caplog: pytest.LogCaptureFixture) -> None:
    async def ask(engine: Engine) -> list[Outcome | BaseException]:
        bad = engine.run(only_digest("bad"), [features(1)], "id-of-bad")
        good = engine.run(only_digest("good"), [features(5)])
        return list(await asyncio.gather(bad, good, return_exceptions=True))

    reports: list[BatchReport] = []
    engine = Engine(Failing(RuntimeError("secret")), limits(), on_batch=reports.append)
    with _running(engine):
        bad, good = asyncio.run(ask(engine))
        assert engine.restarts == 0
    assert isinstance(bad, BackendFailedError)
    assert "secret" not in bad.message
    assert isinstance(good, Outcome)
    assert sorted(report.failed for report in reports) == [False, True]
    assert "id-of-bad" in caplog.text
    assert "secret" in caplog.text


def test_an_answer_of_the_wrong_length_is_a_failed_batch() -> None:
    with (
        _running(Engine(lambda _task, _inputs: [], limits())) as engine,
        pytest.raises(BackendFailedError),
    ):
        asyncio.run(engine.run(TASK, [features(2)]))


def test_batches_are_reported() -> None:
    reports: list[BatchReport] = []
    with _running(Engine(_lengths, limits(), on_batch=reports.append)) as engine:
        asyncio.run(engine.run(TASK, [features(2), features(5)]))
    (report,) = reports
    assert (report.rows, report.tokens, report.padded_tokens, report.failed) == (2, 7, 10, False)
    assert report.seconds >= 0


def test_a_worker_that_dies_is_replaced_and_the_queue_survives(caplog: pytest.LogCaptureFixture) -> None:
    gate, prepared = Gate(), []

    def compute(task: LoadedTask, inputs: Sequence[Features]) -> Sequence[Floats]:
        gate(task, inputs)
        if inputs[0].tokens == 1:
            raise SystemExit
        return _lengths(task, inputs)

    async def ask(engine: Engine) -> list[Outcome | BaseException]:
        dying = asyncio.create_task(engine.run(only_digest("dying"), [features(1)]))
        await gate.reached()
        waiting = asyncio.create_task(engine.run(only_digest("waiting"), [features(5)]))
        await asyncio.sleep(0)
        gate.open.set()
        return list(await asyncio.gather(dying, waiting, return_exceptions=True))

    engine = Engine(compute, limits(), prepare=lambda: prepared.append(1), restart_seconds=0)
    with _running(engine):
        dying, waiting = asyncio.run(ask(engine))
        assert engine.wait_ready(PATIENCE)
        assert engine.restarts == 1
    assert isinstance(dying, UnhealthyError)
    assert isinstance(waiting, Outcome)
    assert _values(waiting) == [5]
    assert prepared == [1, 1]
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]


def test_a_dead_worker_is_not_ready() -> None:
    engine = Engine(Failing(SystemExit()), limits(), restart_seconds=PATIENCE)

    async def ask() -> None:
        with pytest.raises(UnhealthyError):
            await engine.run(TASK, [features(1)])
        assert not engine.ready
        with pytest.raises(NotReadyError):
            await engine.run(TASK, [features(5)])

    with _running(engine):
        asyncio.run(ask())
    assert not engine.ready


def test_a_worker_that_can_not_be_prepared_is_tried_again() -> None:
    tries: list[int] = []

    def prepare() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("the device is busy")

    with _running(Engine(_lengths, limits(), prepare=prepare, restart_seconds=0)) as engine:
        assert engine.restarts == 2
        assert _values(asyncio.run(engine.run(TASK, [features(5)]))) == [5]


def test_a_metric_that_raises_does_not_hang_its_requests() -> None:
    def on_batch(_report: BatchReport) -> None:
        raise ValueError("no such bucket")

    engine = Engine(_lengths, limits(), on_batch=on_batch, restart_seconds=0)
    with _running(engine), pytest.raises(UnhealthyError):
        asyncio.run(engine.run(TASK, [features(5)]))


def test_a_cancelled_call_is_not_computed() -> None:
    gate = Gate()

    async def ask(engine: Engine) -> None:
        first = asyncio.create_task(engine.run(TASK, [features(2)]))
        await gate.reached()
        gone = asyncio.create_task(engine.run(TASK, [features(3)]))
        stays = asyncio.create_task(engine.run(TASK, [features(4)]))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises((asyncio.CancelledError, CancelledError)):
            await gone
        gate.open.set()
        await asyncio.gather(first, stays)

    with _running(Engine(gate, limits())) as engine:
        asyncio.run(ask(engine))
    assert gate.computed == [2, 4]


def test_closing_computes_what_waits_and_refuses_the_rest() -> None:
    gate = Gate()

    async def ask(engine: Engine) -> list[Outcome]:
        first = asyncio.create_task(engine.run(TASK, [features(2)]))
        await gate.reached()
        waiting = asyncio.create_task(engine.run(TASK, [features(3)]))
        await asyncio.sleep(0)
        engine.queue.close()
        with pytest.raises(ShuttingDownError):
            await engine.run(TASK, [features(4)])
        gate.open.set()
        assert await asyncio.to_thread(engine.close, PATIENCE)
        return list(await asyncio.gather(first, waiting))

    with _running(Engine(gate, limits())) as engine:
        outcomes = asyncio.run(ask(engine))
        assert not engine.ready
    assert [_values(outcome) for outcome in outcomes] == [[2], [3]]


def test_what_is_not_computed_in_time_at_closing_is_failed() -> None:
    gate = Gate()

    async def ask(engine: Engine) -> Outcome:
        first = asyncio.create_task(engine.run(TASK, [features(2)]))
        await gate.reached()
        waiting = asyncio.create_task(engine.run(TASK, [features(3)]))
        await asyncio.sleep(0)
        assert not engine.close(0)
        with pytest.raises(ShuttingDownError):
            await waiting
        gate.open.set()
        return await first

    with _running(Engine(gate, limits())) as engine:
        assert _values(asyncio.run(ask(engine))) == [2]
    assert gate.computed == [2]


@pytest.mark.parametrize("compute", [_lengths, Failing(SystemExit())])
def test_closing_ends_every_thread(compute: Compute) -> None:
    engine = Engine(compute, limits(), restart_seconds=PATIENCE)
    with _running(engine):
        call: Callable[[], Outcome] = lambda: asyncio.run(engine.run(TASK, [features(1)]))  # noqa: E731
        if compute is _lengths:
            call()
        else:
            with pytest.raises(UnhealthyError):
                call()
        assert engine.close(PATIENCE)
    assert engine.queue.drained


def test_closing_an_engine_that_never_started() -> None:
    assert Engine(_lengths, limits()).close(PATIENCE)
