import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from threading import Event, get_ident
from typing import Any

import numpy as np
import pytest

from masking.tasks.predictions import Floats
from server.engine.pending import Cost, DropReason
from server.engine.retry import Compute
from server.engine.worker import BatchReport, Engine
from server.errors import (
    BackendFailedError,
    DeadlineError,
    InvalidBodyError,
    NotReadyError,
    QueueFullError,
    ShuttingDownError,
    UnhealthyError,
)
from tests.support.server_parts import TaskBatches, features, limits, pending
from tests.support.serving import wait_until

PATIENCE = 20.0


def _lengths(batch: TaskBatches) -> list[list[Floats]]:
    """Answers each input with its number of tokens."""
    return [[np.array([item.tokens], dtype=np.float32) for item in one.features] for one in batch]


def _tokens(batch: TaskBatches) -> list[int]:
    return [item.tokens for one in batch for item in one.features]


@contextmanager
def _running(engine: Engine) -> Iterator[Engine]:
    engine.start()
    wait_until(lambda: engine.ready, PATIENCE)
    try:
        yield engine
    finally:
        engine.close(PATIENCE)


def _values(answers: tuple[Floats, ...]) -> list[float]:
    return [float(logits[0]) for logits in answers]


class Gate:
    """A compute that waits until it is let through."""

    def __init__(self) -> None:
        self.entered, self.open = Event(), Event()
        self.computed: list[int] = []

    def __call__(self, batch: TaskBatches) -> list[list[Floats]]:
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.computed.extend(_tokens(batch))
        return _lengths(batch)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, PATIENCE)


class Failing:
    """A compute that raises for an input of one token."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, batch: TaskBatches) -> list[list[Floats]]:
        if 1 in _tokens(batch):
            raise self.error
        return _lengths(batch)


def test_answers_come_in_the_order_of_the_inputs() -> None:
    with _running(Engine(_lengths, limits(rows=2))) as engine:
        request = pending("a", [features(n) for n in (7, 2, 9, 4)])
        answers = asyncio.run(engine.run(request))
    assert _values(answers) == [7, 2, 9, 4]
    times = request.timings
    assert 0 < times.received <= times.queued <= times.started <= times.computed


def test_every_one_of_many_requests_gets_its_own_answer() -> None:
    async def ask(engine: Engine) -> list[tuple[Floats, ...]]:
        asked = [engine.run(pending("ab"[n % 2], [features(n), features(n + 1)])) for n in range(1, 41)]
        return await asyncio.gather(*asked)

    with _running(Engine(_lengths, limits(rows=7))) as engine:
        outcomes = asyncio.run(ask(engine))
    assert [_values(outcome) for outcome in outcomes] == [[n, n + 1] for n in range(1, 41)]


def test_one_prepared_thread_computes() -> None:
    seen: list[tuple[str, int]] = []

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        seen.append(("compute", get_ident()))
        return _lengths(batch)

    engine = Engine(compute, limits(), prepare=lambda: seen.append(("prepare", get_ident())))
    with _running(engine):
        for _ in range(3):
            asyncio.run(engine.run(pending("a", [features(2)])))
    assert [what for what, _ in seen] == ["prepare", "compute", "compute", "compute"]
    assert len({thread for _, thread in seen}) == 1
    assert get_ident() not in {thread for _, thread in seen}


def test_requests_before_the_start_are_refused() -> None:
    engine = Engine(_lengths, limits())
    assert not engine.ready
    with pytest.raises(NotReadyError):
        asyncio.run(engine.run(pending("a", [features(2)])))


def test_what_the_queue_refuses_is_refused() -> None:
    gate = Gate()

    async def ask(engine: Engine) -> None:
        with pytest.raises(InvalidBodyError):
            await engine.run(pending("a", [features(2)] * 4))
        first = asyncio.create_task(engine.run(pending("a", [features(2)])))
        await gate.reached()
        waiting = asyncio.create_task(engine.run(pending("a", [features(2)] * 3)))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await engine.run(pending("a", [features(2)]))
        gate.open.set()
        await asyncio.gather(first, waiting)

    with _running(Engine(gate, limits(waiting=3))) as engine:
        asyncio.run(ask(engine))


async def _ask_behind(
    gate: Gate, engine: Engine, calls: Sequence[Coroutine[Any, Any, tuple[Floats, ...]]]
) -> list[Any]:
    """Outcomes of calls that meet in one batch, for they wait while the worker is held up."""
    first = asyncio.create_task(engine.run(pending("first", [features(2)])))
    await gate.reached()
    waiting = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    gate.open.set()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)


def test_a_failure_in_a_mixed_batch_fails_only_its_task(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[BatchReport] = []
    gate, failing = Gate(), Failing(RuntimeError("secret"))
    engine = Engine(lambda batch: gate(batch) and failing(batch), limits(), on_batch=reports.append)
    with _running(engine):
        calls = [
            engine.run(pending("good", [features(5)])),
            engine.run(pending("bad", [features(1)], "id-of-bad")),
            engine.run(pending("fine", [features(6), features(7)])),
        ]
        good, bad, fine = asyncio.run(_ask_behind(gate, engine, calls))
        assert engine.worker.restarts == 0
    assert isinstance(bad, BackendFailedError)
    assert "secret" not in bad.message
    assert (_values(good), _values(fine)) == ([5], [6, 7])
    report = reports[-1]
    assert (report.tasks, report.failures, report.failed) == (3, ("failed", "failed"), True)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
    assert "id-of-bad" in caplog.records[-1].getMessage()
    assert "secret" in caplog.text


def test_an_answer_of_the_wrong_length_is_a_failed_batch() -> None:
    with (
        _running(Engine(lambda _parts: [[]], limits())) as engine,
        pytest.raises(BackendFailedError),
    ):
        asyncio.run(engine.run(pending("a", [features(2)])))


def test_batches_are_reported() -> None:
    reports: list[BatchReport] = []
    with _running(Engine(_lengths, limits(), on_batch=reports.append)) as engine:
        asyncio.run(engine.run(pending("a", [features(2), features(5)])))
    (report,) = reports
    assert (report.cost, report.tasks, report.padding_tokens) == (Cost(rows=2, tokens=7), 1, 3)
    assert (report.reason, report.failures, report.failed) == ("idle", (), False)
    assert report.seconds >= 0


def test_a_worker_that_dies_is_replaced_and_the_queue_survives(caplog: pytest.LogCaptureFixture) -> None:
    gate, prepared = Gate(), []

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        answers = gate(batch)
        if _tokens(batch) == [1]:
            raise SystemExit
        return answers

    async def ask(engine: Engine) -> list[tuple[Floats, ...] | BaseException]:
        dying = asyncio.create_task(engine.run(pending("dying", [features(1)])))
        await gate.reached()
        waiting = asyncio.create_task(engine.run(pending("waiting", [features(5)])))
        await asyncio.sleep(0)
        gate.open.set()
        return list(await asyncio.gather(dying, waiting, return_exceptions=True))

    engine = Engine(compute, limits(), prepare=lambda: prepared.append(1), restart_seconds=0)
    with _running(engine):
        dying, waiting = asyncio.run(ask(engine))
        wait_until(lambda: engine.ready, PATIENCE)
        assert engine.worker.restarts == 1
    assert isinstance(dying, UnhealthyError)
    assert isinstance(waiting, tuple)
    assert _values(waiting) == [5]
    assert prepared == [1, 1]
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]


def test_a_dead_worker_is_not_ready() -> None:
    engine = Engine(Failing(SystemExit()), limits(), restart_seconds=PATIENCE)

    async def ask() -> None:
        with pytest.raises(UnhealthyError):
            await engine.run(pending("a", [features(1)]))
        assert not engine.ready
        with pytest.raises(NotReadyError):
            await engine.run(pending("a", [features(5)]))

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
        assert engine.worker.restarts == 2
        assert _values(asyncio.run(engine.run(pending("a", [features(5)])))) == [5]


def test_a_metric_that_raises_does_not_hang_its_requests() -> None:
    def on_batch(_report: BatchReport) -> None:
        raise ValueError("no such bucket")

    engine = Engine(_lengths, limits(), on_batch=on_batch, restart_seconds=0)
    with _running(engine), pytest.raises(UnhealthyError):
        asyncio.run(engine.run(pending("a", [features(5)])))


def test_a_cancelled_call_is_not_computed() -> None:
    gate = Gate()

    async def ask(engine: Engine) -> None:
        first = asyncio.create_task(engine.run(pending("a", [features(2)])))
        await gate.reached()
        gone = asyncio.create_task(engine.run(pending("a", [features(3)])))
        stays = asyncio.create_task(engine.run(pending("a", [features(4)])))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises((asyncio.CancelledError, CancelledError)):
            await gone
        gate.open.set()
        await asyncio.gather(first, stays)

    with _running(Engine(gate, limits())) as engine:
        asyncio.run(ask(engine))
    assert gate.computed == [2, 4]


def test_a_late_request_is_dropped_and_the_drop_is_told() -> None:
    gate, told = Gate(), list[DropReason]()
    engine = Engine(gate, limits(), on_drop=told.append)
    with _running(engine):
        calls = [
            engine.run(pending("a", [features(3)], deadline=time.monotonic())),
            engine.run(pending("a", [features(4)], deadline=time.monotonic() + PATIENCE)),
        ]
        late, stays = asyncio.run(_ask_behind(gate, engine, calls))
    assert isinstance(late, DeadlineError)
    assert _values(stays) == [4]
    assert told == ["expired"]
    assert gate.computed == [2, 4]


def test_closing_computes_what_waits_and_refuses_the_rest() -> None:
    gate = Gate()

    async def ask(engine: Engine) -> list[tuple[Floats, ...]]:
        first = asyncio.create_task(engine.run(pending("a", [features(2)])))
        await gate.reached()
        waiting = asyncio.create_task(engine.run(pending("a", [features(3)])))
        await asyncio.sleep(0)
        engine.queue.close()
        with pytest.raises(ShuttingDownError):
            await engine.run(pending("a", [features(4)]))
        gate.open.set()
        assert await asyncio.to_thread(engine.close, PATIENCE)
        return list(await asyncio.gather(first, waiting))

    with _running(Engine(gate, limits())) as engine:
        outcomes = asyncio.run(ask(engine))
        assert not engine.ready
    assert [_values(outcome) for outcome in outcomes] == [[2], [3]]


def test_what_is_not_computed_in_time_at_closing_is_failed() -> None:
    gate = Gate()

    async def ask(engine: Engine) -> tuple[Floats, ...]:
        first = asyncio.create_task(engine.run(pending("a", [features(2)])))
        await gate.reached()
        waiting = asyncio.create_task(engine.run(pending("a", [features(3)])))
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
        call: Callable[[], tuple[Floats, ...]] = lambda: asyncio.run(engine.run(pending("a", [features(1)])))  # noqa: E731
        if compute is _lengths:
            call()
        else:
            with pytest.raises(UnhealthyError):
                call()
        assert engine.close(PATIENCE)
    assert engine.queue.drained


def test_closing_an_engine_that_never_started() -> None:
    assert Engine(_lengths, limits()).close(PATIENCE)
