import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.signs import DENSE, MASKS, MIXED, PLAIN, SIGNS


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    small = ["--shape", "tiny", "--runs", "1", "--batches", "4x8"]
    assert main(["signs", "--json", str(out), *small]) == 0
    (result,) = json.loads(out.read_text())["results"]
    assert result["seconds"].keys() == {DENSE, PLAIN, MASKS, SIGNS, MIXED}
    assert result["ratios"][MASKS][MASKS] == result["ratios"][DENSE][DENSE] == 1
    assert "signs over masks" in capsys.readouterr().out
