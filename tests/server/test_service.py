import asyncio
import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from mask_store import MaskStore, StoreNotFoundError, StoreUnavailableError
from masking import Base, InputTooLongError, MaskedEncoder, TaskBatch, TextInput
from server.engine.pending import Floats
from server.errors import DeadlineError, QueueFullError, ShuttingDownError, TaskUnloadedError
from server.http.parsing import Reply, Request
from server.service import Answer, Service
from server.settings import Settings, SettingsError
from tests.support.server_parts import Parts, zeros
from tests.support.serving import TEXT, bundle_of, fill, settings_of, wait_until


@contextmanager
def started(base: Base, place: Path, **options: Any) -> Iterator[Service]:
    compute = options.pop("compute", None)
    service = Service.build(settings_of(place, **options), base=base, compute=compute)
    service.start()
    try:
        wait_until(lambda: service.why_not_ready() is None)
        yield service
    finally:
        service.close()


def request(*texts: str, truncate: bool = False) -> Request:
    return Request(tuple(TextInput(text) for text in texts), truncate, Reply("tei", batched=True))


def test_the_store_is_looked_for_before_the_base_is_loaded(tmp_path: Path) -> None:
    settings = Settings(base=str(tmp_path / "no-base"), store=str(tmp_path / "no-store"))
    with pytest.raises(StoreNotFoundError):
        Service.build(settings)


def test_a_device_that_this_machine_lacks(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, [])
    with pytest.raises(SettingsError, match="--device cuda:99"):
        Service.build(Settings(base=tiny_bert, store=str(tmp_path), device="cuda:99"))


def test_the_base_is_loaded_by_its_name(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, [])
    service = Service.build(Settings(base=tiny_bert, store=str(tmp_path), device="cpu"))
    assert service.base.info == base.info
    assert service.why_not_ready() == "the worker is not running"


def test_an_answer_has_logits_in_order_and_counts_tokens(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        task = service.registry.get("sentiment").loaded
        both = asyncio.run(service.compute(task, request(TEXT, "no"), "a"))
        (alone,) = asyncio.run(service.compute(task, request("no"), "b")).outcome.logits
    assert both.tokens == 6 + 3
    assert both.tokenize_seconds > 0
    np.testing.assert_allclose(both.outcome.logits[1], alone, rtol=1e-4, atol=1e-5)


def test_a_base_is_never_written(base: Base, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in base.encoder.state_dict().items()}
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        asyncio.run(service.compute(service.registry.get("sentiment").loaded, request(TEXT), "a"))
    assert all(torch.equal(before[name], tensor) for name, tensor in base.encoder.state_dict().items())


def test_without_kernels_the_answer_is_the_same(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise AssertionError("a kernel was asked for")

    fill(tmp_path, base, ["sentiment"])
    answers = []
    for kernels in ("auto", "off"):
        if kernels == "off":
            monkeypatch.setattr("masking.kernels.cpu.launch._kernels", fail)
        with started(base, tmp_path, kernels=kernels) as service:
            task = service.registry.get("sentiment").loaded
            answers.append(asyncio.run(service.compute(task, request(TEXT), "a")).outcome.logits[0])
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5)


def test_a_text_that_is_too_long_holds_no_room(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        task = service.registry.get("sentiment").loaded
        with pytest.raises(InputTooLongError):
            asyncio.run(service.compute(task, request("movie " * 99), "a"))
        assert service.engine.queue.waiting == 0
        asyncio.run(service.compute(task, request("movie " * 99, truncate=True), "b"))


class Stuck:
    """A compute that waits until it is let go."""

    def __init__(self) -> None:
        self.started, self.let_go = Event(), Event()
        self.rows = 0

    def __call__(self, parts: Parts) -> list[list[Floats]]:
        self.started.set()
        assert self.let_go.wait(20)
        self.rows += sum(len(inputs) for _, inputs in parts)
        return zeros(parts)


def test_rows_over_the_limit_are_refused_at_admission(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck, queue_limit=2) as service:
        task = service.registry.get("sentiment").loaded

        async def overload() -> None:
            first = asyncio.create_task(service.compute(task, request(TEXT), "a"))
            await asyncio.to_thread(stuck.started.wait, 20)
            second = asyncio.create_task(service.compute(task, request(TEXT, TEXT), "b"))
            await asyncio.to_thread(wait_until, lambda: service.engine.queue.waiting == 2)
            with pytest.raises(QueueFullError):
                await service.compute(task, request(TEXT), "c")
            stuck.let_go.set()
            await asyncio.gather(first, second)

        asyncio.run(overload())
    assert stuck.rows == 3


def test_a_cancelled_call_is_not_computed(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck) as service:
        task = service.registry.get("sentiment").loaded

        async def leave() -> None:
            first = asyncio.create_task(service.compute(task, request(TEXT), "a"))
            await asyncio.to_thread(stuck.started.wait, 20)
            second = asyncio.create_task(service.compute(task, request(TEXT), "b"))
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

    def compute(parts: Parts) -> list[list[Floats]]:
        asked.append([len(features) for _, features in parts])
        return stuck(parts)

    with started(base, tmp_path, compute=compute) as service:
        tasks = [service.registry.get(name).loaded for name in names]

        async def call(index: int) -> Answer:
            wanted = Request((inputs[index],), False, Reply("tei", batched=True))
            return await service.compute(tasks[index], wanted, str(index))

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
        task = service.registry.get("sentiment").loaded
        with pytest.raises(DeadlineError):
            asyncio.run(service.compute(task, request(TEXT), "a"))
        with pytest.raises(DeadlineError):
            asyncio.run(service.compute(task, request(TEXT), "waits behind the first"))
        stuck.let_go.set()
        wait_until(lambda: service.engine.queue.waiting == 0)
        wait_until(lambda: 'reason="expired"} 1.0' in service.metrics.exposition().decode())
    assert stuck.rows == 1


@pytest.mark.parametrize(("option", "tokens"), [(0, 8192), (77, 77)])
def test_the_token_limit_is_chosen_by_the_device_or_the_operator(
    base: Base, tmp_path: Path, option: int, tokens: int
) -> None:
    fill(tmp_path, base, [])
    service = Service.build(settings_of(tmp_path, max_batch_tokens=option), base=base)
    assert service.engine.queue.limits.tokens == tokens


def test_closing_computes_what_waits_and_refuses_the_rest(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck) as service:
        task = service.registry.get("sentiment").loaded

        async def close() -> None:
            calls = [asyncio.create_task(service.compute(task, request(TEXT), "first"))]
            await asyncio.to_thread(stuck.started.wait, 20)
            calls += [asyncio.create_task(service.compute(task, request(TEXT), str(i))) for i in range(4)]
            queue = service.engine.queue
            await asyncio.to_thread(wait_until, lambda: (queue.waiting, queue._reserved) == (4, 0))
            closing = asyncio.create_task(asyncio.to_thread(service.close))
            await asyncio.to_thread(wait_until, lambda: not service.watcher.alive)
            stuck.let_go.set()
            assert len(await asyncio.gather(*calls)) == 5
            await closing
            with pytest.raises(ShuttingDownError):
                await service.compute(task, request(TEXT), "late")

        asyncio.run(close())
    assert stuck.rows == 5


def test_a_version_is_freed_when_its_last_request_is_answered(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck) as service:
        freed = weakref.ref(service.registry.get("sentiment").loaded)

        async def unload_in_flight() -> None:
            task = service.registry.get("sentiment").loaded
            calls = [asyncio.create_task(service.compute(task, request(TEXT), str(i))) for i in range(2)]
            del task
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


def test_one_input_is_computed_before_the_server_is_ready(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, base)
    computed: list[tuple[str, bool]] = []
    real = MaskedEncoder.logits

    def logits(encoder: MaskedEncoder, parts: Sequence[TaskBatch]) -> list[list[Floats]]:
        computed.extend((part.task.manifest.task, service.engine.ready) for part in parts)
        return real(encoder, parts)

    monkeypatch.setattr(MaskedEncoder, "logits", logits)
    service = Service.build(settings_of(tmp_path), base=base)
    service.start()
    try:
        wait_until(lambda: service.why_not_ready() is None)
        assert [ready for _, ready in computed] == [False]
    finally:
        service.close()


def test_a_task_that_fails_to_warm_up_keeps_nobody_waiting(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cold")

    fill(tmp_path, base, ["sentiment"])
    monkeypatch.setattr(MaskedEncoder, "logits", fail)
    with started(base, tmp_path) as service:
        assert service.engine.restarts == 0
    assert "warming up with task sentiment failed" in caplog.text


def test_a_service_can_be_closed_before_its_tasks_are_loaded(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let_go = Event(), Event()

    def snapshot(_: MaskStore) -> None:
        begun.set()
        assert let_go.wait(20)
        raise StoreUnavailableError("away")

    fill(tmp_path, base, ["sentiment"])
    monkeypatch.setattr(MaskStore, "snapshot", snapshot)
    service = Service.build(settings_of(tmp_path, shutdown_seconds=0), base=base)
    service.start()
    assert begun.wait(20)
    assert service.why_not_ready() == "the tasks of the store are still being loaded"
    service.close()
    let_go.set()
    wait_until(lambda: not service.watcher.alive)
    assert not service.engine.ready


def test_required_tasks_decide_about_readiness(base: Base, tmp_path: Path) -> None:
    store = fill(tmp_path, base, ["sentiment"])
    service = Service.build(settings_of(tmp_path, require_task=["sentiment", "names"]), base=base)
    service.start()
    try:
        wait_until(lambda: service.engine.ready)
        assert service.why_not_ready() == "required task 'names' is not in the store"
        published = store.publish(bundle_of(base, "names"))
        wait_until(lambda: service.why_not_ready() is None)
        service.lifecycle.unload("sentiment")
        reason = service.why_not_ready()
        assert reason is not None
        assert reason.startswith("required task 'sentiment' is unloaded; ")
        service.lifecycle.load("sentiment")
        assert service.why_not_ready() is None
        assert published.number == 1
    finally:
        service.close()


def test_a_required_task_that_can_not_be_loaded_is_named_with_the_reason(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment", "names"])
    (bundle,) = (tmp_path / "tasks" / "names" / "bundles").iterdir()
    bundle.write_bytes(b"broken")
    service = Service.build(settings_of(tmp_path, require_task=["names"]), base=base)
    service.start()
    try:
        wait_until(lambda: service.engine.ready)
        reason = service.why_not_ready()
        assert reason is not None
        assert reason.startswith("required task 'names' could not be loaded: version 1: DigestMismatchError")
        assert service.registry.get("sentiment").version == 1
    finally:
        service.close()


def test_draining_is_not_ready_but_answers(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        service.drain()
        assert service.why_not_ready() == "the server is shutting down"
        task = service.registry.get("sentiment").loaded
        assert len(asyncio.run(service.compute(task, request(TEXT), "a")).outcome.logits) == 1
