import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.fanout import AT_ONCE, FAN_OUT, IN_TURN, ROWS, SEPARATE, SHARED
from masking.kernels.cpu.processor import lacks


def test_a_text_for_all_tasks_is_measured_alone_and_over_http(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    options = ["--shape", "tiny", "--tasks", "3", "--tokens", "6", "--blocks", "2", "0-2", "--runs", "2"]
    options += ["--clients", "2", "--seconds", "0.1", "--rounds", "1"]
    precisions = ["fp32"] if lacks("bf16") else ["fp32", "bf16"]
    assert main(["fanout", *options, "--precision", *precisions, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["machine"]["instructions"]
    settings = [(precision, blocks) for precision in precisions for blocks in ("2", "0-2")]
    assert [(one["precision"], one["blocks"]) for one in report["batch"]] == settings
    for one in report["batch"]:
        assert one["seconds"].keys() == {SHARED, SEPARATE}
        assert one["error"] < 1e-3
    assert [(one["precision"], one["blocks"]) for one in report["http"]] == settings
    for one in report["http"]:
        assert one["texts_per_second"].keys() == {FAN_OUT, ROWS, AT_ONCE, IN_TURN}
        assert one["over"][FAN_OUT] == 1.0
        assert all(rate > 0 for rate in one["texts_per_second"].values())
    printed = capsys.readouterr().out
    assert printed.count("\n| fp32 |") == 4
