import asyncio
from pathlib import Path
from threading import Event

import pytest

from mask_store import MaskStore, StoreUnavailableError
from masking import Base
from server.build import build_service
from server.errors import ShuttingDownError
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
