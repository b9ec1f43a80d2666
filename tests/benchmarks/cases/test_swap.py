import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.swap import TOTAL


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main(["swap", "--shape", "tiny", "--runs", "2", "--rows", "1", "3", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    steps = report["publish"]
    assert all(0 < step["min"] <= step["median"] <= step["max"] for step in steps.values())
    parts = ("notice", "read", "check", "check against the base, decode and ready the masks", "first forward")
    assert steps[TOTAL]["max"] > max(steps[part]["min"] for part in parts)
    assert [change["rows"] for change in report["changes"]] == [1, 3]
    assert all(change["ratio"]["median"] > 0 for change in report["changes"])
    assert TOTAL in capsys.readouterr().out
