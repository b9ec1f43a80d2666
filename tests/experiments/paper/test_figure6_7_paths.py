from pathlib import Path

from experiments.interpolation.paths import PathPoint
from experiments.paper.figure6_7_paths import BETWEEN, CURVE, FROM_PRETRAINED, Paths, judge_lines
from tests.support.experiments import picture, run
from tests.support.models import tiny_base


def test_figure6(tmp_path: Path, tiny_bert: str) -> None:
    other = tiny_base(tmp_path / "other", "distilbert")
    bases = ("--base", tiny_bert, other, "--tasks", "sst2")
    report = run(tmp_path, tiny_bert, "figure6", "blocks=0-", *bases)
    assert picture(tmp_path, "figure6")
    first, second = report["values"]["found"]
    assert list(first["paths"]) == [BETWEEN, *FROM_PRETRAINED]
    assert list(second["paths"]) == [BETWEEN]
    assert {len(path) for path in first["paths"].values()} == {21}
    between = first["paths"][BETWEEN]
    for name, end in zip(FROM_PRETRAINED, (between[0], between[-1]), strict=True):
        assert first["paths"][name][-1] == {**end, "t": 1.0}
    starts = [first["paths"][name][0] for name in FROM_PRETRAINED]
    assert starts[0] == starts[1]
    assert [claim["rule"] for claim in report["claims"]] == ["F6a", "F6b", "F6a"]


def test_figure7(tmp_path: Path, tiny_bert: str) -> None:
    report = run(tmp_path, tiny_bert, "figure7", "blocks=0-", "--tasks", "sst2")
    assert picture(tmp_path, "figure7")
    (found,) = report["values"]["found"]
    line, curve = found["paths"][BETWEEN], found["paths"][CURVE]
    assert [line[0], line[-1]] == [curve[0], curve[-1]]
    assert line[10]["loss"] != curve[10]["loss"]
    (constant, definition) = report["claims"]
    assert constant["rule"] == "F7a"
    assert definition["values"] == {"control points": 5, "moved": 3}
    assert definition["agrees"] is True
    assert "3 trainable models" in report["settings"]["Curve"]


def _path(*values: float) -> list[PathPoint]:
    return [PathPoint(index / (len(values) - 1), value, 0.0) for index, value in enumerate(values)]


def test_what_the_claims_are_about() -> None:
    flat, rising = _path(0.9, 0.89, 0.91), _path(0.5, 0.6, 0.9)
    paths = {BETWEEN: flat, **dict.fromkeys(FROM_PRETRAINED, rising)}
    found = Paths("base", "sst2", 1, 2, "accuracy", 0.52, paths)
    assert [(one.id, one.finding.holds) for one in judge_lines(found)] == [("F6a", True), ("F6b", True)]
    assert found.lines(BETWEEN).accuracies == {BETWEEN: [90.0, 89.0, 91.0]}
    assert found.title == "base, SST2 (seed 1, epoch 2)"
