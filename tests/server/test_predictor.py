import asyncio
import gc
import time
import weakref
from pathlib import Path
from threading import get_ident

import numpy as np
import pytest

from masking import Base, InputTooLongError, Prediction, TextInput, WordsInput, WordsPrediction
from masking.tasks.predictions import Floats
from masking.tasks.token_classification import WordsCodec
from server.engine.pending import Timings
from server.errors import DeadlineError, QueueFullError, TaskUnloadedError
from server.predictor import PredictRequest
from server.service import Service
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


@pytest.mark.parametrize(("words", "decoding_threads"), [(3, 0), (2000, 1)])
def test_many_logits_are_decoded_off_the_event_loop(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: int, decoding_threads: int
) -> None:
    fill(tmp_path, base, ["names"])
    threads: set[int] = set()
    real = WordsCodec.decode

    def decode(codec: WordsCodec, logits: Floats) -> WordsPrediction:
        threads.add(get_ident())
        return real(codec, logits)

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        return [[np.zeros((words, 4), np.float32) for _ in one.features] for one in batch]

    monkeypatch.setattr(WordsCodec, "decode", decode)
    with started(base, tmp_path, compute=compute) as service:
        asyncio.run(predict(service, PredictRequest((WordsInput(("movie",)),)), task="names"))
    assert len(threads - {get_ident()}) == decoding_threads


def test_work_on_a_large_body_gives_way_to_what_is_computed_but_not_for_ever(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()

    async def waited(service: Service, size: int = 1 << 20) -> float:
        begun = time.monotonic()
        return await service.predictor.run_by_size(size, lambda: time.monotonic() - begun)

    async def run(service: Service) -> None:
        monkeypatch.setattr("server.predictor._GIVES_WAY_SECONDS", 60.0)
        assert await waited(service) < 30
        asking = asyncio.create_task(predict(service, texts(TEXT)))
        await asyncio.to_thread(stuck.started.wait, 30)
        giving = asyncio.create_task(waited(service))
        await asyncio.sleep(0.2)
        assert not giving.done()
        assert await waited(service, size=100) < 30
        monkeypatch.setattr("server.predictor._GIVES_WAY_SECONDS", 0.05)
        assert await waited(service) >= 0.05
        stuck.let_go.set()
        await asking
        assert await giving < 30

    with started(base, tmp_path, compute=stuck) as service:
        asyncio.run(run(service))


def test_no_more_requests_are_expected_than_there_is_room_for(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, base, ["sentiment"])

    async def run(service: Service) -> None:
        served, predictor = service.registry.get("sentiment"), service.predictor
        with await predictor.expect(served) as first:
            with pytest.raises(QueueFullError):
                await predictor.expect(served)
            await predictor.predict(served, texts(TEXT), "a", Timings(), expected=first)
        monkeypatch.setattr("server.predictor._EXPECTED_SECONDS", 0.0)
        late = await predictor.expect(served)
        await asyncio.sleep(0.05)
        with await predictor.expect(served), pytest.raises(QueueFullError):
            await predictor.predict(served, texts(TEXT), "b", Timings(), expected=late)

    with started(base, tmp_path, queue_limit=1) as service:
        asyncio.run(run(service))


def test_a_failure_took_time_from_its_arrival(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        served = service.registry.get("sentiment")
        timings = Timings(received=time.monotonic() - 100)
        with pytest.raises(InputTooLongError):
            asyncio.run(service.predictor.predict(served, texts("movie " * 99), "a", timings))
    failed = served.statistics.durations["fail"]
    assert (failed.count, failed.seconds > 100) == (1, True)


def test_a_request_may_wait_for_room_before_its_time_runs(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck, queue_limit=1) as service:
        served, timings = service.registry.get("sentiment"), Timings()

        async def patient() -> list[Prediction]:
            place = await service.predictor.wait_for_room(served, texts(TEXT))
            return await service.predictor.predict(served, texts(TEXT), "c", timings, place=place)

        async def overload() -> float:
            queue = service.engine.queue
            first = asyncio.create_task(predict(service, texts(TEXT), "a"))
            await asyncio.to_thread(stuck.started.wait, 20)
            second = asyncio.create_task(predict(service, texts(TEXT), "b"))
            await asyncio.to_thread(wait_until, lambda: queue._waiting.cost.rows == 1)
            third = asyncio.create_task(patient())
            await asyncio.sleep(0.05)
            assert not third.done()
            let_go = time.monotonic()
            stuck.let_go.set()
            await asyncio.gather(first, second, third)
            return let_go

        let_go = asyncio.run(overload())
    assert timings.admitted >= let_go
    durations = served.statistics.durations
    assert (durations["success"].count, durations["fail"].count) == (3, 0)


def test_a_wait_for_room_ends(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck, queue_limit=1, request_timeout_ms=300) as service:
        served = service.registry.get("sentiment")

        async def overload() -> None:
            calls = [asyncio.create_task(predict(service, texts(TEXT), name)) for name in "a"]
            await asyncio.to_thread(stuck.started.wait, 20)
            place = service.engine.queue.reservation(1)
            with place, pytest.raises(DeadlineError, match="no room in the queue"):
                await service.predictor.wait_for_room(served, texts(TEXT))
            with await service.predictor.wait_for_room(served, texts(TEXT)):
                assert service.engine.queue.waiting == 1
            stuck.let_go.set()
            await asyncio.gather(*calls, return_exceptions=True)

        asyncio.run(overload())
        assert service.engine.queue.waiting == 0


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
            await asyncio.to_thread(wait_until, lambda: queue._waiting.cost.rows == 1)
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
            await asyncio.to_thread(wait_until, lambda: queue._waiting.cost.rows == 5)
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


def test_a_fan_out_that_is_given_up_leaves_the_queue(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment", "topics"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck) as service:
        queue = service.engine.queue

        async def leave() -> None:
            running = asyncio.ensure_future(predict(service, texts(TEXT)))
            await asyncio.to_thread(stuck.started.wait, 20)
            calls = [(service.registry.get(task), texts(TEXT)) for task in ("sentiment", "topics")]
            replies = service.predictor.fan_out(calls, "a")
            first = asyncio.ensure_future(anext(replies))
            while queue.waiting < len(calls):
                await asyncio.sleep(0.01)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            while queue.waiting:
                await asyncio.sleep(0.01)
            stuck.let_go.set()
            await running

        asyncio.run(asyncio.wait_for(leave(), 20))
    assert stuck.rows == 1
