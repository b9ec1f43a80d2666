import gc
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from masking import Base
from server import host
from server.build import build_service
from server.errors import UnhealthyError
from server.http.app import create_app
from tests.support.serving import TEXT, bundle_of, fill, settings_of, wait_until


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives the process of the tests back as it was."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    switch, collected = sys.getswitchinterval(), gc.get_threshold()
    handlers = logging.getLogger().handlers[:]
    yield
    sys.setswitchinterval(switch)
    gc.set_threshold(*collected)
    gc.unfreeze()
    logging.getLogger().handlers[:] = handlers


@pytest.mark.usefixtures("as_before")
def test_an_application_for_any_server_is_ready_once_it_has_started(
    tiny_bert: str, base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, base, ["sentiment", "names"])
    settings = settings_of(tmp_path).model_copy(update={"base": tiny_bert})
    with caplog.at_level(logging.INFO, "server"), TestClient(host.build_app(settings)) as client:
        assert client.get("/health/ready").json()["tasks"] == 2
        assert client.post("/predict/sentiment", json={"inputs": TEXT}).status_code == 200
    assert f"starting with base {tiny_bert} and store {tmp_path}" in caplog.text
    assert gc.get_freeze_count() > 0
    assert sys.getswitchinterval() == pytest.approx(0.0002)


def test_the_start_waits_for_tasks_that_are_required(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = fill(tmp_path, base, ["sentiment"])
    service = build_service(settings_of(tmp_path, require_task=["names"]), base=base)
    app = create_app(service, start_ready=True)

    class Publishing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "required task 'names'" in record.getMessage():
                store.publish(bundle_of(base, "names"))

    logger, publishing = logging.getLogger("server.http.app"), Publishing()
    logger.addHandler(publishing)
    try:
        with caplog.at_level(logging.INFO, logger.name), TestClient(app) as client:
            assert client.get("/health/ready").json()["tasks"] == 2
    finally:
        logger.removeHandler(publishing)
    assert "not ready yet: required task 'names' is not in the store" in caplog.text
    assert service.why_not_ready() == "the server is shutting down"


def test_the_start_fails_where_it_can_not_become_ready(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, ["sentiment"])
    service = build_service(settings_of(tmp_path, shutdown_seconds=1), base=base)

    def die() -> None:
        raise RuntimeError("no kernel can be built here")

    service.engine._prepare = die
    service.engine.worker._restart_seconds = 0
    with (
        pytest.raises(UnhealthyError, match="the worker died 5 times"),
        TestClient(create_app(service, start_ready=True)),
    ):
        pass
    wait_until(lambda: not service.watcher.alive)
