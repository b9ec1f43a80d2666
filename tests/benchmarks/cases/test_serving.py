import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.serving import ENGINE, HTTP, PER_TASK
from lab.machine import processor_line
from masking.kernels.cpu.processor import lacks


def test_every_way_is_measured_at_one_client_and_at_many(
    tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    options = ["--base", tiny_bert, "--tasks", "3", "--clients", "4", "--seconds", "0.1", "--rounds", "2"]
    precisions = ["fp32"] if lacks("bf16") else ["fp32", "bf16"]
    assert main(["serving", *options, "--precision", *precisions, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert list(report["results"]) == precisions
    assert report["machine"]["instructions"]
    for counts in report["results"].values():
        assert counts.keys() == {"1", "4"}
        for ways in counts.values():
            assert ways.keys() == {HTTP, ENGINE, PER_TASK}
            assert ways[ENGINE]["rate_over_engine"] == 1.0
            assert all(one["rate"] > 0 and one["p50_ms"] > 0 for one in ways.values())
    processor, _, *lines = capsys.readouterr().out.splitlines()
    assert processor.startswith(processor_line())
    assert len(lines) == 2 + 6 * len(precisions)


def test_a_precision_that_a_cpu_lacks_is_one_line(tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serving", "--base", tiny_bert, "--precision", "fp32", "tf32"])
    assert "--precision: precision tf32: needs CUDA; this device has fp32" in capsys.readouterr().err
