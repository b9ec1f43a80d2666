"""The Grafana dashboard: whole in itself, and every query of it has data of a real server under load."""

import itertools
import json
import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import yaml

from mask_store import AbortRule, TrafficPlan
from masking import Base, load_base
from tests.deploy.prometheus_process import WINDOW, Prometheus, needs_prometheus, prometheus
from tests.support.models import random_bundle, tiny_base
from tests.support.serving import (
    ROOT,
    SPECS,
    TEXT,
    RunningServer,
    add_key,
    bundle_of,
    running,
    wait_until,
)

FOLDER = ROOT / "deploy" / "grafana"
BOARD = json.loads((FOLDER / "dashboards" / "maskserve.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    (f"{panel['title']} {target['refId']}", target["expr"]) for panel in PANELS for target in panel["targets"]
]
COLUMNS = 24
TASKS = ("sentiment", "topics", "names")
CANARY = "canary"
CALLS = [("all", task) for task in (*TASKS * 2, CANARY)] + [("team-a", "sentiment"), ("team-a", "topics")]
"""Who asks for what: the second key is refused the second of its tasks."""
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
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def keys(keys_file: Path) -> dict[str, str]:
    """Keys by name, which are in the file."""
    return {"all": add_key(keys_file, "all", "*"), "team-a": add_key(keys_file, "team-a", "sentiment")}


@pytest.fixture(scope="module")
def server(
    tiny_bert: str,
    base: Base,
    keys: dict[str, str],
    keys_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """A server with a small queue, and in its store versions for another base and side by side."""
    folder = tmp_path_factory.mktemp("served")
    other = load_base(tiny_base(folder / "other", hidden=64))
    options = ("--queue-limit", "32", "--keys-file", str(keys_file))
    with running(tiny_bert, base, folder, TASKS, *options) as server:
        server.store.publish(bundle_of(other, "topics"))
        server.store.publish(bundle_of(base, "names", seed=1))
        server.store.set_traffic("names", TrafficPlan(weights={1: 50, 2: 50}, shadow=2, stable=1))
        for labels in (("a", "b"), ("x", "y")):  # which never agree
            spec = replace(SPECS["sentiment"], labels=labels)
            server.store.publish(random_bundle(base, spec, task=CANARY))
        yield server


def ask(server: RunningServer, key: str, task: str, over: Event) -> None:
    """Ask again and again."""
    with httpx.Client(timeout=30, headers={"authorization": f"Bearer {key}"}) as client:
        while not over.wait(0.1):
            reply = client.post(f"{server.url}/predict/{task}", json={"inputs": [[TEXT]] * 6})
            assert reply.status_code in {200, 403, 429}, reply.text


def publish(server: RunningServer, base: Base, over: Event) -> None:
    """Each second publish a version, and begin traffic that its threshold ends soon."""
    rule = AbortRule(agreement=1, rows=1)
    for seed in itertools.count(1):
        server.store.publish(bundle_of(base, "sentiment", seed=seed))
        server.store.set_traffic(CANARY, TrafficPlan(shadow=1, abort=rule))
        if over.wait(1):
            return


@pytest.fixture(scope="module")
def watching(
    server: RunningServer, base: Base, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that watches the server with everything going on."""
    over = Event()
    folder = tmp_path_factory.mktemp("watched") / "prometheus"
    with (
        ThreadPoolExecutor(len(CALLS) + 1) as threads,
        prometheus(folder, [server.url.removeprefix("http://")], key=keys["all"]) as watching,
    ):
        work = [threads.submit(ask, server, keys[name], task, over) for name, task in CALLS]
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
@pytest.mark.parametrize("mark", BOARD["annotations"]["list"], ids=lambda one: one["name"])
def test_swaps_and_aborts_are_marked(watching: Prometheus, mark: dict[str, Any]) -> None:
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
