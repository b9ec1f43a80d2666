import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.swap import TOTAL
from tests.support.kernels.cases import BF16


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=BF16)])
def test_report(precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    options = ["--shape", "tiny", "--runs", "2", "--rows", "1", "3", "--precision", precision]
    assert main(["swap", *options, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["precision"] == precision
    steps = report["publish"]
    assert all(0 < step["min"] <= step["median"] <= step["max"] for step in steps.values())
    parts = ("notice", "read", "check", "check against the base, decode and ready the masks", "first forward")
    assert steps[TOTAL]["max"] > max(steps[part]["min"] for part in parts)
    assert [change["rows"] for change in report["changes"]] == [1, 3]
    assert all(change["ratio"]["median"] > 0 for change in report["changes"])
    assert TOTAL in capsys.readouterr().out
