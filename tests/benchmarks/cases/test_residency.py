import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.residency.run import DEALT, DRAWN, SWEEP, ZIPF


def test_more_tasks_than_fit_are_all_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    options = ["--shape", "tiny", "--tasks", "40", "--ready", "6", "--sets", "2", "--clients", "3"]
    options += ["--seconds", "1", "--all-ready", "20", "--round-seconds", "0.2", "--rounds", "1"]
    assert main(["residency", *options, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    cold = report["cold"]
    assert cold["traffic"].keys() == {ZIPF, SWEEP}
    assert cold["traffic"][SWEEP]["requests"] == 40
    for seen in cold["traffic"].values():
        assert seen["errors"] == 0
        assert 0 < seen["most_mask_bytes"] <= cold["mask_memory_bytes"]
        assert 0 <= seen["hit_rate"] < 1
    assert cold["traffic"][SWEEP]["cold_ms"]["p99"] > 0
    assert cold["traffic"][SWEEP]["evictions"] > 0
    assert (report["ready"]["tasks"], report["ready"]["few"]) == (20, 16)
    for way, clients in {DRAWN: 3, DEALT: 3}.items():
        one = report["ready"][way]
        assert (one["clients"], len(one["ratios"])) == (clients, 1)
        assert one["ratio"] == one["ratios"][0] > 0
        assert all(1 <= tasks <= 3 for tasks in one["batch_tasks"])
        assert min(one["cpu_ms"]) > 0
    printed = capsys.readouterr().out
    assert "40 tasks" in printed
    assert "16 tasks / 20 tasks, all of them ready" in printed
