import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.masked_linear import Layer, Setting, candidates, largest_error
from benchmarks.timing import Times, take_turns


@pytest.mark.parametrize("zeros", [0.0, 0.07, 1.0])
def test_every_candidate_computes_the_same(zeros: float) -> None:
    layer = Layer.random(Setting(tasks=3, tokens=35, rows=64, columns=50, zeros=zeros, threads=1))
    for name, run in candidates(layer).items():
        if name != "one dense":
            assert largest_error(layer, run()) < 1e-5, name


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    small = ["--runs", "1", "--threads", "1", "--zeros", "0.05", "--batches", "2x4", "--shapes", "32x24"]
    assert main(["masked_linear", "--json", str(out), *small]) == 0
    report = json.loads(out.read_text())
    assert report["results"][0]["ratios"]["N dense copies"]["min"] > 0
    assert report["machine"]["versions"]["torch"]
    assert "| 1 | 0.05 | 2x4 | 32x24 |" in capsys.readouterr().out


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert len(times["a"].wall) == 2


def test_ratios() -> None:
    ours, bound = Times((2.0, 4.0, 8.0), (1.0, 1.0, 1.0)), Times((1.0, 2.0, 2.0), (0.5, 0.5, 0.5))
    assert ours.ratios(bound) == {"min": 2.0, "median": 2.0, "cpu": 2.0}
