"""What docs/operations.md and deploy/ say about metrics, settings and routes is so."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from masking import load_base
from server.settings import Settings
from tests.support.serving import fill, serving

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def client(tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    base = load_base(tiny_bert)
    fill(place, base, ["sentiment"])
    with serving(base, place) as client:
        yield client


@pytest.fixture(scope="module")
def metrics(client: TestClient) -> set[str]:
    """Names of all metrics; histograms without the endings of their series."""
    names = re.findall(r"^# TYPE (maskserve_\w+) ", client.get("/metrics").text, re.MULTILINE)
    return {name for name in names if not name.endswith("_created")}


def named_in(expression: str) -> set[str]:
    """The server's metrics in a query; not those that a recording rule makes, which have colons."""
    names = re.findall(r"(?<![\w:])maskserve_\w+(?![\w:])", expression)
    histograms = re.compile("_(bucket|sum|count)$")
    return {histograms.sub("", name) for name in names}


def queries_of_rules() -> Iterator[tuple[str, str]]:
    for file in (ROOT / "deploy" / "prometheus").glob("*.rules.yml"):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule["expr"]


def queries_of_dashboard() -> Iterator[tuple[str, str]]:
    board = json.loads((ROOT / "deploy/grafana/dashboards/maskserve.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_the_table_of_metrics_is_whole(metrics: set[str]) -> None:
    table = GUIDE.partition("| metrics {labels} |")[2]
    listed = re.findall(r"`(maskserve_\w+)`", table)
    assert sorted(listed) == sorted(metrics)


def test_rules_and_dashboard_ask_for_metrics_that_exist(client: TestClient, metrics: set[str]) -> None:
    recorded = {name for name, _ in queries_of_rules() if ":" in name}
    others = set(re.findall(r"^# TYPE ((?:process|python)_\w+) ", client.get("/metrics").text, re.MULTILINE))
    for name, query in [*queries_of_rules(), *queries_of_dashboard()]:
        asked = set(re.findall(r"\b(?:process|python)_\w+", query))
        rules = set(re.findall(r"\b\w+:\w+:\w+", query))
        assert named_in(query) <= metrics, name
        assert asked <= others, name
        assert rules <= recorded, name
        assert named_in(query) | asked | rules | set(re.findall("up", query)), name


def test_the_guide_names_settings_and_routes_that_exist(client: TestClient) -> None:
    for setting in re.findall(r"MASKSERVE_([A-Z_]+)", GUIDE):
        assert setting.lower() in Settings.model_fields
    paths = client.get("/openapi.json").json()["paths"]
    routes = re.findall(r"^\| `(\w+) (/[^`]+)`", GUIDE, re.MULTILINE)
    assert len(routes) == 9
    for method, path in routes:
        assert method.lower() in paths[path.replace("<task>", "{task}")]
