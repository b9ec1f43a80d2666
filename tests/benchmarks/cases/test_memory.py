import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases import memory
from masking.kernels.cpu.processor import lacks
from tests.support.kernels.cases import BF16


@pytest.mark.parametrize(("precision", "width"), [("fp32", 4), pytest.param("bf16", 2, marks=BF16)])
def test_report(precision: str, width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    options = ["--shape", "tiny", "--tasks", "3", "--precision", precision, "--json", str(out)]
    assert main(["memory", *options]) == 0
    report = json.loads(out.read_text())
    assert report["precision"] == precision
    (result,) = report["results"]
    bits = 4 * 32 * 32 + 2 * 32 * 128 + 32 * 32 + 2 * 32  # block 2 of 3, pooler, classifier
    assert bits / 8 <= result["counted_per_task"] < 2 * bits / 8
    assert result["resident_after"] >= result["resident_before"] > 10_000_000
    once_more = 3 * (width * (4 * 32 * 32 + 2 * 32 * 128) + 4 * (5 * 32 + 128))
    assert result["counted_lines"] == (0 if lacks(precision) else once_more)
    assert report["beside"]["a LoRA adapter of rank 8 on the same layers"] == 4 * 8 * (4 * 64 + 2 * 160)
    assert "ours, 3 more tasks" in capsys.readouterr().out


def test_systems_without_proc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "_STATM", tmp_path / "statm")
    assert main(["memory", "--shape", "tiny"]) == 1
    assert "resident memory is read from" in capsys.readouterr().err
