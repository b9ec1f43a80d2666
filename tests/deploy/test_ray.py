"""Routing by task and scaling, which need no Ray; and two replicas as a user starts them."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
import yaml

from deploy.ray.affinity import choose, task_of
from deploy.ray.scaling import ROWS, QueuedRows
from masking import Base
from server.settings import Settings
from tests.support.models import random_bundle
from tests.support.serving import ROOT, SPECS, TEXT, fill, wait_until

FOLDER = ROOT / "deploy" / "ray"
IDLE = dict.fromkeys(("one", "two", "three", "four"), 0)
TASKS = [f"task-{number}" for number in range(1000)]
_START_SECONDS = 240


def config() -> dict[str, Any]:
    """What serve.yaml says."""
    return dict(yaml.safe_load((FOLDER / "serve.yaml").read_text()))


@pytest.mark.parametrize(
    ("path", "task"),
    [
        ("/predict/sentiment", "sentiment"),
        ("/predict/sentiment/rerank", "sentiment"),
        ("/hf/sentiment", "sentiment"),
        ("/tasks/sentiment/versions", "sentiment"),
        ("/v2/models/sentiment/infer", "sentiment"),
        ("/v2/models/sentiment/versions/3/infer", "sentiment"),
        ("/predict", None),
        ("/tasks", None),
        ("/v1/embeddings", None),
        ("/v2/health/ready", None),
        ("/", None),
    ],
)
def test_the_task_of_a_path(path: str, task: str | None) -> None:
    assert task_of(path) == task


def test_a_task_has_the_same_replica_in_every_proxy() -> None:
    for task in TASKS[:50]:
        assert choose(task, IDLE) == choose(task, dict(reversed(IDLE.items())))


def test_tasks_are_spread_evenly() -> None:
    counts = Counter(choose(task, IDLE) for task in TASKS)
    assert counts.keys() == IDLE.keys()
    assert all(200 < count < 300 for count in counts.values())


def test_a_replica_that_goes_moves_no_task_of_the_others() -> None:
    left = {name: 0 for name in IDLE if name != "two"}
    for task in TASKS:
        before = choose(task, IDLE)
        assert before == "two" or choose(task, left) == before


def test_a_hot_replica_shares_its_tasks_with_the_next_of_their_order() -> None:
    first = choose("sentiment", IDLE)
    second = choose("sentiment", {**IDLE, first: 10})
    assert second != first
    assert choose("sentiment", {**IDLE, first: 10, second: 10}) not in {first, second}
    assert choose("sentiment", dict.fromkeys(IDLE, 10)) == first  # all are as busy


@pytest.mark.parametrize("hot", [1.0, 1.5, 3.0])
def test_no_replica_has_more_than_its_bound(hot: float) -> None:
    requests = dict(IDLE)
    for sent in range(1, 201):
        requests[choose("sentiment", requests, hot)] += 1
        assert max(requests.values()) <= hot * sent / len(requests) + 1


@pytest.mark.parametrize(("rows", "replicas"), [({}, 0), ({"a": 16.0}, 0.5), ({"a": 40.0, "b": 56.0}, 3)])
def test_a_replica_is_wanted_for_so_many_rows(rows: dict[str, float], replicas: float) -> None:
    policy = QueuedRows(rows_per_replica=32)
    assert policy(SimpleNamespace(aggregated_metrics={ROWS: rows})) == (replicas, {})
    assert policy(SimpleNamespace(aggregated_metrics={}))[0] == 0


def test_rows_per_replica_are_over_zero() -> None:
    with pytest.raises(ValueError, match="rows_per_replica is over 0: 0"):
        QueuedRows(0)


def test_the_config_names_what_is_there_and_gives_the_server_time_to_end() -> None:
    (application,) = config()["applications"]
    (deployment,) = application["deployments"]
    scaling = deployment["autoscaling_config"]
    names = {
        application["import_path"],
        scaling["policy"]["policy_function"],
    }
    for module, name in (path.split(":") for path in names):
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        assert re.search(rf"^(class|def) {name}\b", source, re.MULTILINE)
    assert QueuedRows(**scaling["policy"]["policy_kwargs"])
    assert 2 == scaling["min_replicas"] < scaling["max_replicas"]
    (drain,) = re.findall(r"DRAINING_PERIOD_S:-(\d+)", (FOLDER / "start.sh").read_text())
    shutdown = Settings.model_fields["shutdown_seconds"].default
    assert deployment["graceful_shutdown_timeout_s"] > shutdown + int(drain)


@dataclass
class Clients:
    """Clients in threads of their own that ask one task after another, and what they are answered.

    Attributes:
        statuses: Answers by status; 0 counts connections that broke.
    """

    url: str
    tasks: list[str]
    statuses: Counter[int] = field(default_factory=Counter)
    unready: list[str] = field(default_factory=list)
    stop: Event = field(default_factory=Event)

    @contextmanager
    def running(self, number: int) -> Iterator[None]:
        """That many of them, until the end."""
        threads = [Thread(target=self._ask, args=(first,)) for first in range(number)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, turn: int) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.stop.is_set():
                turn += 1
                try:
                    reply = client.post(
                        f"/predict/{self.tasks[turn % len(self.tasks)]}", json={"inputs": TEXT}
                    )
                except httpx.TransportError:
                    self.statuses[0] += 1
                    continue
                self.statuses[reply.status_code] += 1
                if reply.status_code == 503:
                    self.unready.append(reply.text)


def targets(url: str) -> list[str]:
    """Addresses of the replicas, as Prometheus gets them."""
    (group,) = httpx.get(f"{url}/metrics/targets").json()
    return sorted(group["targets"])


def answered(url: str) -> dict[str, dict[str, int]]:
    """How many requests each replica answered, by replica and task."""
    line = re.compile(
        r'^maskserve_requests_total\{route="/predict/\{task\}",status="200",task="(.+)"\} (.+)$'
    )
    return {
        target: {
            found[1]: int(float(found[2]))
            for text in httpx.get(f"http://{target}/metrics").text.splitlines()
            if (found := line.match(text))
        }
        for target in targets(url)
    }


def _status(target: str, task: str) -> int:
    """The status that the replica at an address answers for a task: 503 if it is not in service."""
    return httpx.get(f"http://{target}/tasks/{task}").status_code


def process_at(target: str) -> psutil.Process:
    """The process that listens there."""
    port = int(target.rpartition(":")[2])
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            return psutil.Process(connection.pid)
    raise AssertionError(f"nobody listens at {target}")


@pytest.fixture(scope="module")
def url(tiny_bert: str, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of two replicas that deploy/ray/start.sh started, on a store of 16 tasks."""
    if find_spec("ray") is None:
        pytest.skip("needs ray: pip install 'maskserve[ray]'")
    folder = tmp_path_factory.mktemp("ray")
    store = fill(folder / "store", base, ["sentiment"])
    for number in range(15):
        store.publish(random_bundle(base, SPECS["sentiment"], task=f"task-{number:02}", seed=number))
    changed = config()
    changed["http_options"] = {"host": "127.0.0.1", "port": 18199}
    (application,) = changed["applications"]
    application["args"] = {"base": tiny_bert, "store": str(folder / "store"), "admin_key": "key"}
    (folder / "serve.yaml").write_text(yaml.safe_dump(changed))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    address = "http://127.0.0.1:18199"
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(
            [FOLDER / "start.sh", folder / "serve.yaml"], env=environment, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: started.poll() is None and _has_replicas(address, 2), _START_SECONDS)
        yield address
    finally:
        print((folder / "log").read_text())
        started.send_signal(signal.SIGINT)
        try:
            started.wait(90)
        except subprocess.TimeoutExpired:
            started.kill()


def _has_replicas(address: str, number: int) -> bool:
    try:
        return len(targets(address)) == number
    except (httpx.HTTPError, ValueError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_replicas_share_the_tasks_and_one_may_die(url: str) -> None:
    tasks = ["sentiment", *(f"task-{number:02}" for number in range(15))]
    for task in tasks * 5:
        assert httpx.post(f"{url}/predict/{task}", json={"inputs": TEXT}).status_code == 200
    one, two = answered(url).values()
    assert one
    assert two
    most = sum(max(one.get(task, 0), two.get(task, 0)) for task in tasks)
    assert most > 0.9 * (sum(one.values()) + sum(two.values()))  # the first came before both were known

    headers = {"authorization": "Bearer key"}
    for change, status in (("unload", 503), ("load", 200)):
        assert httpx.post(f"{url}/tasks/sentiment/{change}", headers=headers).status_code == 200
        for target in targets(url):
            wait_until(lambda at=target, to=status: _status(at, "sentiment") == to)  # type: ignore[misc]

    before = targets(url)
    clients = Clients(url, tasks)
    with clients.running(8):
        wait_until(lambda: clients.statuses[200] > 50, 60)
        process_at(before[0]).kill()
        seen = clients.statuses[200]
        wait_until(lambda: clients.statuses[200] > seen + 50, 60)
        wait_until(lambda: _has_replicas(url, 2) and targets(url) != before, _START_SECONDS)
        seen = clients.statuses[200]
        wait_until(lambda: clients.statuses[200] > seen + 50, 60)
    assert not clients.unready
    assert sum(clients.statuses.values()) - clients.statuses[200] <= 8  # those in flight
