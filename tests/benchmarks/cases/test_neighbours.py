import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.neighbours import BUSY, ONE_CORE, QUIET, QUOTA, Result, busy_loops, one_cpu, table


def test_the_server_is_measured_with_every_neighbour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    options = ["--shape", "tiny", "--clients", "2", "--seconds", "0.1", "--rounds", "1"]
    assert main(["neighbours", *options, "--policies", "passive", "--json", str(out)]) == 0
    results = json.loads(out.read_text())["results"]
    assert [(one["neighbours"], one["clients"]) for one in results[:4]] == [
        (QUIET, 1),
        (QUIET, 2),
        (BUSY, 1),
        (BUSY, 2),
    ]
    assert {one["neighbours"] for one in results[4:]} <= {QUOTA, ONE_CORE}
    assert all(one["rate"] > 0 and 0 < one["p50_ms"] <= one["p90_ms"] for one in results)
    assert len(capsys.readouterr().out.splitlines()) == 2 + 6


def test_without_control_groups_one_core_stands_in_and_the_name_says_so(tmp_path: Path) -> None:
    with one_cpu(tmp_path) as (name, before):
        assert name == ONE_CORE
        assert subprocess.run([*before, "true"], check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_busy_loops_end() -> None:
    with busy_loops() as loops:
        assert loops
        assert all(loop.poll() is None for loop in loops)
    assert all(loop.poll() is not None for loop in loops)


def test_rates_are_over_the_first_policy_without_neighbours() -> None:
    results = [
        Result(QUIET, "passive", 1, rate=200, p50_ms=1, p90_ms=2),
        Result(BUSY, "passive", 1, rate=100, p50_ms=1, p90_ms=2),
        Result(QUIET, "active", 1, rate=50, p50_ms=1, p90_ms=2),
    ]
    lines = table(results).splitlines()
    assert "rate over passive, quiet" in lines[0]
    assert [line.split(" | ")[3] for line in lines[2:]] == ["1.00", "0.25", "0.50"]
