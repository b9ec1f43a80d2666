"""Each alert fires in a Prometheus that watches a server to which it happens; minutes are seconds here."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
import uvicorn

from lab.server_process import server_command, start_server
from mask_store import AbortRule, MaskStore, TrafficPlan
from masking import Base, load_base, load_task
from server.build import build_service
from server.engine.retry import Compute
from server.http.app import create_app
from tests.deploy.prometheus_process import (
    WINDOW,
    Prometheus,
    alert_rules,
    free_port,
    needs_prometheus,
    prometheus,
)
from tests.support.models import tiny_base
from tests.support.server_parts import TaskBatches, zeros
from tests.support.serving import (
    EXACT,
    ROOT,
    TEXT,
    FailingVersion,
    add_key,
    bundle_of,
    fill,
    settings_of,
    wait_until,
)

pytestmark = [needs_prometheus, pytest.mark.slow]

TASK = "sentiment"
PATIENCE = 60.0


@contextmanager
def listening(base: Base, place: Path, *, compute: Compute | None = None, **settings: Any) -> Iterator[str]:
    """The address of a server in this process, which may never be ready."""
    service = build_service(settings_of(place, **settings), base=base, compute=compute)
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_config=None, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def asked(address: str, clients: int = 1, task: str = TASK) -> Iterator[None]:
    """Clients that ask again and again."""
    over = Event()

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not over.wait(0.02):
                client.post(f"http://{address}/predict/{task}", json={"inputs": TEXT})

    threads = [Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def taking(seconds: float) -> Compute:
    """A compute that takes so long for a batch."""

    def compute(batch: TaskBatches) -> Any:
        time.sleep(seconds)
        return zeros(batch)

    return compute


def failing(error: type[BaseException]) -> Compute:
    """A compute that raises."""

    def compute(_: TaskBatches) -> Any:
        raise error("broken")

    return compute


def sees(watching: Prometheus, query: str) -> None:
    wait_until(lambda: bool(watching.query(query)), PATIENCE)


def fires(watching: Prometheus, alert: str) -> None:
    wait_until(lambda: alert in watching.firing(), PATIENCE)


@pytest.fixture
def place(base: Base, tmp_path: Path) -> Path:
    """A store with one task."""
    fill(tmp_path / "store", base, [TASK])
    return tmp_path / "store"


def test_a_healthy_server_under_load_fires_none(base: Base, place: Path, tmp_path: Path) -> None:
    with (
        listening(base, place) as address,
        asked(address),
        prometheus(tmp_path / "prometheus", [address]) as watching,
    ):
        answered = 'rate(maskserve_requests_total{status="200"}[4s]) > 0'
        sees(watching, answered)
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() > begun + 8)  # two windows
        assert watching.firing() == set()


@pytest.mark.parametrize(
    ("alert", "compute", "clients", "settings"),
    [
        ("MaskserveErrors", failing(RuntimeError), 1, {}),
        ("MaskserveBatchesFail", failing(RuntimeError), 1, {}),
        ("MaskserveThreadDies", failing(SystemExit), 2, {}),
        ("MaskserveOverloaded", taking(0.3), 4, {"queue_limit": 1}),
        ("MaskserveSlow", taking(1.2), 1, {}),
        ("MaskserveBusy", taking(0.2), 3, {}),
        ("MaskserveNotReady", None, 0, {"require_task": ("missing",)}),
    ],
)
def test_what_happens_to_requests(
    base: Base,
    place: Path,
    tmp_path: Path,
    alert: str,
    compute: Compute | None,
    clients: int,
    settings: dict[str, Any],
) -> None:
    with ExitStack() as stack:
        address = stack.enter_context(listening(base, place, compute=compute, **settings))
        watching = stack.enter_context(prometheus(tmp_path / "prometheus", [address], _over_minutes))
        sees(watching, "up == 1")  # all series have begun
        stack.enter_context(asked(address, clients))
        fires(watching, alert)


def test_a_server_that_is_gone(base: Base, place: Path, tmp_path: Path) -> None:
    with ExitStack() as serving:
        address = serving.enter_context(listening(base, place))
        with prometheus(tmp_path / "prometheus", [address]) as watching:
            sees(watching, 'up{job="maskserve"} == 1')
            serving.close()
            fires(watching, "MaskserveDown")


def test_no_server_that_prometheus_knows(tmp_path: Path) -> None:
    with prometheus(tmp_path / "prometheus", []) as watching:
        fires(watching, "MaskserveAbsent")


def test_a_server_that_starts_again_and_again(tiny_bert: str, place: Path, tmp_path: Path) -> None:
    port = free_port()
    command = server_command("--base", tiny_bert, "--store", place, "--port", port, "--precision", EXACT)
    with prometheus(tmp_path / "prometheus", [f"127.0.0.1:{port}"], _over_minutes) as watching:
        for run in range(4):
            with start_server(command, tmp_path / f"log-{run}", folder=ROOT, environment=dict(os.environ)):
                sees(watching, f"up == 1 and changes(process_start_time_seconds[10m]) >= {run}")
        fires(watching, "MaskserveRestarts")


def _over_minutes(rules: str) -> str:
    """Let restarts and aborts be counted over minutes: they take seconds."""
    for series in (
        'process_start_time_seconds{job="maskserve"}',
        "maskserve_thread_restarts",
        "maskserve_traffic_aborts_total",
    ):
        rules = rules.replace(f"{series}[{WINDOW}]", f"{series}[10m]")
    return rules


def test_a_store_that_vanished(base: Base, place: Path, tmp_path: Path) -> None:
    with listening(base, place) as address, prometheus(tmp_path / "prometheus", [address]) as watching:
        place.rename(tmp_path / "elsewhere")
        fires(watching, "MaskserveStoreAway")


def test_a_store_that_is_not_looked_at(base: Base, place: Path, tmp_path: Path) -> None:
    def in_seconds(rules: str) -> str:
        return rules.replace("> 600", "> 6")

    with (
        listening(base, place, poll_seconds=3600) as address,
        prometheus(tmp_path / "prometheus", [address], in_seconds) as watching,
    ):
        fires(watching, "MaskserveStoreNotSeen")


def test_a_version_that_can_not_be_served(base: Base, place: Path, tmp_path: Path) -> None:
    other = load_base(tiny_base(tmp_path / "other", hidden=64))
    with listening(base, place) as address, prometheus(tmp_path / "prometheus", [address]) as watching:
        fill(place, base, []).publish(bundle_of(other, TASK))
        fires(watching, "MaskserveTaskNotServed")


def test_more_tasks_than_masks_in_memory(base: Base, place: Path, tmp_path: Path) -> None:
    fill(place, base, ["names"])
    both = sum(load_task(bundle_of(base, task), base).nbytes for task in (TASK, "names"))
    with ExitStack() as stack:
        address = stack.enter_context(listening(base, place, mask_memory=both - 1))
        for task in (TASK, "names"):
            stack.enter_context(asked(address, task=task))
        fires(stack.enter_context(prometheus(tmp_path / "prometheus", [address])), "MaskserveMasksThrash")


def test_traffic_that_a_threshold_ended(base: Base, place: Path, tmp_path: Path) -> None:
    store = MaskStore.open(place)
    store.publish(bundle_of(base, TASK, seed=1))
    compute = FailingVersion(base, store.version(TASK, 1).digest)
    with ExitStack() as stack:
        address = stack.enter_context(listening(base, place, compute=compute))
        watching = stack.enter_context(prometheus(tmp_path / "prometheus", [address], _over_minutes))
        store.set_traffic(TASK, TrafficPlan(shadow=1, abort=AbortRule(errors=0.1, rows=1)))
        sees(watching, "maskserve_traffic_aborts_total == 0")
        stack.enter_context(asked(address))
        fires(watching, "MaskserveRolloutAborted")


def test_a_keys_file_that_is_gone(base: Base, place: Path, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    key = add_key(keys_file, "all", "*")
    with (
        listening(base, place, keys_file=keys_file) as address,
        prometheus(tmp_path / "prometheus", [address], key=key) as watching,
    ):
        sees(watching, "maskserve_keys_file_up == 1")
        keys_file.unlink()
        fires(watching, "MaskserveKeysFileUnread")


def test_each_alert_is_tested_here() -> None:
    text = Path(__file__).read_text()
    assert {rule["alert"] for rule in alert_rules() if f'"{rule["alert"]}"' not in text} == set()
