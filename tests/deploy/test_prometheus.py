"""Prometheus takes the files of deploy/prometheus/ as they are, and each alert fires when it should."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.prometheus_process import FILES, RULES, alert_rules, needs_prometheus
from tests.support.serving import ROOT

CASES = Path(__file__).parent / "alerts.test.yml"
GUIDE = (ROOT / "docs" / "operations.md").read_text()


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", FILES / "prometheus.yml"),
        ("check", "rules", *(FILES / name for name in RULES)),
        ("test", "rules", CASES),
    ],
    ids=["config", "rules", "alerts"],
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str | Path, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    tests = yaml.safe_load(CASES.read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in alert_rules()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_every_alert_has_a_severity_and_a_line_in_the_guide() -> None:
    for rule in alert_rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert f"| `{rule['alert']}` |" in GUIDE
