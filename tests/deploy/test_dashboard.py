"""The Grafana dashboard: whole in itself, and every query of it has data of a real server under load."""

import itertools
import json
import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pytest
import yaml

from masking import Base, load_base
from tests.deploy.prometheus_process import WINDOW, Prometheus, needs_prometheus, prometheus
from tests.support.models import tiny_base
from tests.support.serving import ROOT, TEXT, RunningServer, bundle_of, running, wait_until

FOLDER = ROOT / "deploy" / "grafana"
BOARD = json.loads((FOLDER / "dashboards" / "maskserve.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    (f"{panel['title']} {target['refId']}", target["expr"]) for panel in PANELS for target in panel["targets"]
]
COLUMNS = 24
TASKS = ("sentiment", "topics")
CLIENTS = 8
PATIENCE = 60.0


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    """The cells of the grid that a panel covers."""
    place = panel["gridPos"]
    across, down = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
    return set(itertools.product(across, down))


def test_panels_have_their_own_place_and_say_what_they_show() -> None:
    covered = [cell for panel in BOARD["panels"] for cell in cells(panel)]
    assert len(covered) == len(set(covered))
    assert max(across for across, _ in covered) < COLUMNS
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert all(panel["description"] for panel in PANELS)


def test_queries_ask_the_chosen_source_for_the_chosen_servers() -> None:
    sources = {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    assert sources == {"${datasource}"}
    for name, expression in QUERIES:
        selectors = re.findall(r"\{([^}]*)\}", expression)
        assert selectors, name
        assert all('job=~"$job", instance=~"$instance"' in selector for selector in selectors), name
        assert "[5m]" not in expression, name  # Grafana chooses the range


def test_the_provisioning_finds_the_dashboard() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"][:2])
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/maskserve.yml").read_text())["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]


@pytest.fixture(scope="module")
def server(tiny_bert: str, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a small queue, and a version for another base in its store."""
    folder = tmp_path_factory.mktemp("served")
    other = load_base(tiny_base(folder / "other", hidden=64))
    with running(tiny_bert, base, folder, TASKS, "--queue-limit", "16") as server:
        server.store.publish(bundle_of(other, "topics"))
        yield server


def ask(server: RunningServer, task: str, over: Event) -> None:
    """Ask again and again."""
    with httpx.Client(timeout=30) as client:
        while not over.wait(0.1):
            reply = client.post(f"{server.url}/predict/{task}", json={"inputs": [[TEXT]] * 6})
            assert reply.status_code in {200, 429}, reply.text


def publish(server: RunningServer, base: Base, over: Event) -> None:
    """Publish a version each second."""
    for seed in itertools.count(1):
        server.store.publish(bundle_of(base, "sentiment", seed=seed))
        if over.wait(1):
            return


@pytest.fixture(scope="module")
def watching(
    server: RunningServer, base: Base, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that watches the server with everything going on."""
    over = Event()
    folder = tmp_path_factory.mktemp("watched") / "prometheus"
    with (
        ThreadPoolExecutor(CLIENTS + 1) as threads,
        prometheus(folder, [server.url.removeprefix("http://")]) as watching,
    ):
        work = [threads.submit(ask, server, task, over) for task in TASKS * (CLIENTS // len(TASKS))]
        work.append(threads.submit(publish, server, base, over))
        try:
            yield watching
        finally:
            over.set()
            for one in work:
                one.result()


def filled(expression: str) -> str:
    """An expression as Grafana sends it with all servers and tasks chosen."""
    for name, value in {"$__rate_interval": WINDOW, "$job": ".*", "$instance": ".*", "$task": ".*"}.items():
        expression = expression.replace(name, value)
    return expression


@needs_prometheus
@pytest.mark.slow
@pytest.mark.parametrize("expression", [one for _, one in QUERIES], ids=[name for name, _ in QUERIES])
def test_every_query_has_data(watching: Prometheus, expression: str) -> None:
    def has_data() -> bool:
        samples = watching.query(filled(expression))
        return any(math.isfinite(float(sample["value"][1])) for sample in samples)

    wait_until(has_data, PATIENCE)


@needs_prometheus
@pytest.mark.slow
def test_the_swaps_are_marked(watching: Prometheus) -> None:
    (mark,) = BOARD["annotations"]["list"]
    wait_until(lambda: bool(watching.query(filled(mark["expr"]))), PATIENCE)


@needs_prometheus
@pytest.mark.slow
@pytest.mark.parametrize(
    "variable",
    [one for one in BOARD["templating"]["list"] if one["type"] == "query"],
    ids=lambda one: one["name"],
)
def test_every_choice_has_something_to_choose(watching: Prometheus, variable: dict[str, Any]) -> None:
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found
    wait_until(lambda: any(found[2] in sample["metric"] for sample in watching.query(filled(found[1]))))
