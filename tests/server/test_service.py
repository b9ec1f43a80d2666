import asyncio
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from threading import Event

import pytest

from mask_store import MaskStore, StoreUnavailableError
from masking import Base
from masking.tasks.predictions import Floats
from server.build import build_service
from server.errors import ShuttingDownError, UnhealthyError
from server.service import Closing
from server.tasks.watcher import StoreWatcher
from tests.support.server_parts import Clock
from tests.support.serving import (
    TEXT,
    Stuck,
    bundle_of,
    fill,
    predict,
    settings_of,
    started,
    texts,
    wait_until,
)


def test_closing_computes_what_waits_and_refuses_the_rest(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck) as service:

        async def close() -> None:
            calls = [asyncio.create_task(predict(service, texts(TEXT), "first"))]
            await asyncio.to_thread(stuck.started.wait, 20)
            calls += [asyncio.create_task(predict(service, texts(TEXT), str(i))) for i in range(4)]
            queue = service.engine.queue
            await asyncio.to_thread(wait_until, lambda: queue._waiting.cost.rows == 4)
            closing = asyncio.create_task(asyncio.to_thread(service.close))
            await asyncio.to_thread(wait_until, lambda: not service.watcher.alive)
            stuck.let_go.set()
            assert len(await asyncio.gather(*calls)) == 5
            await closing
            with pytest.raises(ShuttingDownError):
                await predict(service, texts(TEXT), "late")

        asyncio.run(close())
    assert stuck.rows == 5


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
    service = build_service(settings_of(tmp_path, shutdown_seconds=0), base=base)
    service.start()
    assert begun.wait(20)
    assert service.why_not_ready() == "the tasks of the store are still being loaded"
    service.close()
    let_go.set()
    wait_until(lambda: not service.watcher.alive)
    wait_until(lambda: not service.engine.ready)  # the worker may have been on its way


def test_required_tasks_decide_about_readiness(base: Base, tmp_path: Path) -> None:
    store = fill(tmp_path, base, ["sentiment"])
    service = build_service(settings_of(tmp_path, require_task=["sentiment", "names"]), base=base)
    service.start()
    try:
        wait_until(lambda: service.engine.ready)
        assert service.why_not_ready() == "required task 'names' is not in the store"
        assert service.why_not_running() is None  # another process would miss it as well
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
    service = build_service(settings_of(tmp_path, require_task=["names"]), base=base)
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
        assert len(asyncio.run(predict(service, texts(TEXT)))) == 1


def test_the_end_of_a_process_has_one_time_for_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    closing = Closing()
    assert closing.left(30) == 30
    clock.now += 20
    assert closing.left(30) == 10
    clock.now += 20
    assert closing.left(30) == 1  # a part that has nothing to do needs no more


def test_a_watcher_that_dies_is_not_ready_until_it_watches_again(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        thread, real, killed = service.watcher.thread, StoreWatcher.poll, Event()

        def poll(watcher: StoreWatcher) -> None:
            if not killed.is_set():
                killed.set()
                raise SystemExit
            real(watcher)

        monkeypatch.setattr(thread, "_restart_seconds", 0.2)
        monkeypatch.setattr(StoreWatcher, "poll", poll)
        wait_until(lambda: service.why_not_ready() == "the store is not being watched")
        wait_until(lambda: service.why_not_ready() is None)
        assert (
            'maskserve_thread_restarts{thread="store watcher"} 1.0' in service.metrics.exposition().decode()
        )


def test_a_worker_that_can_not_be_kept_alive_is_a_failure_of_the_service(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])

    def die(_: object) -> list[list[Floats]]:
        raise SystemExit

    with started(base, tmp_path, compute=die) as service:
        worker = service.engine.worker
        worker._restart_seconds = 0
        for _ in range(5):
            wait_until(lambda: service.engine.ready)
            with pytest.raises(UnhealthyError):
                asyncio.run(predict(service, texts(TEXT)))
        wait_until(lambda: service.failure is not None)
        assert service.why_not_ready() == service.failure == worker.failure
        with pytest.raises(UnhealthyError):
            asyncio.run(predict(service, texts(TEXT)))


def test_a_shutdown_that_has_begun_leaves_only_the_rest_of_its_time(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    stuck = Stuck()
    with started(base, tmp_path, compute=stuck, shutdown_seconds=3600) as service:

        async def close() -> None:
            call = asyncio.create_task(predict(service, texts(TEXT)))
            await asyncio.to_thread(stuck.started.wait, 20)
            waiting = asyncio.create_task(predict(service, texts(TEXT)))
            await asyncio.to_thread(wait_until, lambda: service.engine.queue._waiting.cost.rows == 1)
            service.closing.begin(0)  # all of it was needed for what was in flight
            await asyncio.to_thread(service.close)
            with pytest.raises(ShuttingDownError):
                await waiting
            stuck.let_go.set()
            await call

        asyncio.run(close())


def test_a_server_that_can_not_tokenise_is_not_ready(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        service.tokenizer.close()
        wait_until(lambda: service.why_not_ready() == "the tokenizer is not running")


def test_a_server_that_is_not_installed_starts(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    monkeypatch.setattr("server.service.version", missing)
    fill(tmp_path, base, ["sentiment"])
    service = build_service(settings_of(tmp_path), base=base)
    assert service.version == "0"
    assert 'version="0"' in service.metrics.exposition().decode()
