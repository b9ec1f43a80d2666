import asyncio
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from masking import Base, InputTooLongError, Prediction, TextInput
from masking.tasks.predictions import Floats
from server.engine.pending import Timings
from server.errors import DeadlineError, QueueFullError, TaskUnloadedError
from server.predictor import PredictRequest
from tests.support.server_parts import TaskBatches
from tests.support.serving import (
    TEXT,
    Stuck,
    fill,
    predict,
    started,
    texts,
    wait_until,
)


def test_predictions_come_in_order_with_the_time_of_each_stage(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    timings = Timings()
    with started(base, tmp_path) as service:
        served = service.registry.get("sentiment")
        both = asyncio.run(service.predictor.predict(served, texts(TEXT, "no"), "a", timings))
        (alone,) = asyncio.run(predict(service, texts("no")))
    assert timings.tokens == 6 + 3
    assert timings.tokenize > 0
    times = [timings.received, timings.admitted, timings.queued, timings.started, timings.computed]
    assert [*times, timings.finished] == sorted([*times, timings.finished])
    np.testing.assert_allclose(both[1].logits, alone.logits, rtol=1e-4, atol=1e-5)


def test_a_text_that_is_too_long_holds_no_room(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        with pytest.raises(InputTooLongError):
            asyncio.run(predict(service, texts("movie " * 99), "a"))
        assert service.engine.queue.waiting == 0
        asyncio.run(predict(service, texts("movie " * 99, truncate=True), "b"))


def test_rows_over_the_limit_are_refused_at_admission(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck, queue_limit=2) as service:

        async def overload() -> None:
            first = asyncio.create_task(predict(service, texts(TEXT), "a"))
            await asyncio.to_thread(stuck.started.wait, 20)
            second = asyncio.create_task(predict(service, texts(TEXT, TEXT), "b"))
            await asyncio.to_thread(wait_until, lambda: service.engine.queue.waiting == 2)
            with pytest.raises(QueueFullError):
                await predict(service, texts(TEXT), "c")
            stuck.let_go.set()
            await asyncio.gather(first, second)

        asyncio.run(overload())
    assert stuck.rows == 3


def test_a_cancelled_call_is_not_computed(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck) as service:

        async def leave() -> None:
            first = asyncio.create_task(predict(service, texts(TEXT), "a"))
            await asyncio.to_thread(stuck.started.wait, 20)
            second = asyncio.create_task(predict(service, texts(TEXT), "b"))
            queue = service.engine.queue
            await asyncio.to_thread(wait_until, lambda: (queue.waiting, queue._reserved) == (1, 0))
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            stuck.let_go.set()
            await first

        asyncio.run(leave())
    assert stuck.rows == 1


def test_requests_of_many_tasks_are_computed_together(base: Base, tmp_path: Path) -> None:
    names = ["sentiment", "paraphrase"]
    fill(tmp_path, base, names)
    inputs = [TextInput(TEXT), TextInput("it is good", "it is great")]
    asked: list[list[int]] = []
    stuck = Stuck()

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        asked.append([len(one.features) for one in batch])
        return stuck(batch)

    with started(base, tmp_path, compute=compute) as service:

        async def call(index: int) -> list[Prediction]:
            return await predict(service, PredictRequest((inputs[index],)), task=names[index])

        async def together() -> None:
            first = asyncio.create_task(call(0))
            await asyncio.to_thread(stuck.started.wait, 20)
            calls = [asyncio.create_task(call(index)) for index in (0, 1, 0, 1, 1)]
            queue = service.engine.queue
            await asyncio.to_thread(wait_until, lambda: (queue.waiting, queue._reserved) == (5, 0))
            stuck.let_go.set()
            await asyncio.gather(first, *calls)

        asyncio.run(together())
    assert [sorted(batch) for batch in asked] == [[1], [2, 3]]


def test_a_request_that_is_not_answered_in_time(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck, request_timeout_ms=50) as service:
        with pytest.raises(DeadlineError):
            asyncio.run(predict(service, texts(TEXT), "a"))
        with pytest.raises(DeadlineError):
            asyncio.run(predict(service, texts(TEXT), "waits behind the first"))
        stuck.let_go.set()
        wait_until(lambda: service.engine.queue.waiting == 0)
        wait_until(lambda: 'reason="expired"} 1.0' in service.metrics.exposition().decode())
    assert stuck.rows == 1


def test_a_version_is_freed_when_its_last_request_is_answered(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck) as service:
        freed = weakref.ref(service.registry.get("sentiment").loaded)

        async def unload_in_flight() -> None:
            calls = [asyncio.create_task(predict(service, texts(TEXT), str(i))) for i in range(2)]
            await asyncio.to_thread(stuck.started.wait, 20)
            await asyncio.to_thread(service.lifecycle.unload, "sentiment")
            with pytest.raises(TaskUnloadedError):
                service.registry.get("sentiment")
            assert freed() is not None
            stuck.let_go.set()
            assert len(await asyncio.gather(*calls)) == 2

        asyncio.run(unload_in_flight())
        wait_until(lambda: gc.collect() >= 0 and freed() is None)
    assert stuck.rows == 2
