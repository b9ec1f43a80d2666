from pathlib import Path

import pytest

from experiments.common.paths import PathPoint
from experiments.paper.figure6_7_paths import (
    BETWEEN,
    CURVE,
    FROM_PRETRAINED,
    LINE,
    Paths,
    judge_curve,
    judge_line,
    judge_pretrained,
)
from tests.support.experiments import picture, run


def test_figure6(tmp_path: Path, tiny_bert: str) -> None:
    values = run(tmp_path, tiny_bert, "figure6", "blocks=0-")["values"]
    assert picture(tmp_path, "figure6")
    (found,) = values["found"]
    assert list(found["paths"]) == [BETWEEN, *FROM_PRETRAINED]
    assert {len(path) for path in found["paths"].values()} == {11}
    between = found["paths"][BETWEEN]
    for name, end in zip(FROM_PRETRAINED, (between[0], between[-1]), strict=True):
        assert found["paths"][name][-1]["loss"] == pytest.approx(end["loss"])
    starts = [found["paths"][name][0]["loss"] for name in FROM_PRETRAINED]
    assert starts[0] == starts[1]
    assert len(values["claims"]) == 2


def test_figure7(tmp_path: Path, tiny_bert: str) -> None:
    (found,) = run(tmp_path, tiny_bert, "figure7", "blocks=0-")["values"]["found"]
    assert picture(tmp_path, "figure7")
    line, curve = found["paths"][LINE], found["paths"][CURVE]
    assert [line[0], line[-1]] == [curve[0], curve[-1]]
    assert line[5]["loss"] != curve[5]["loss"]


def _path(*values: float) -> list[PathPoint]:
    return [PathPoint(index / (len(values) - 1), value, 0.0) for index, value in enumerate(values)]


def _paths(between: list[PathPoint], from_pretrained: list[PathPoint]) -> Paths:
    paths = dict.fromkeys((BETWEEN, CURVE), between) | dict.fromkeys(FROM_PRETRAINED, from_pretrained)
    return Paths("sst2", 0, "accuracy", 0.6, paths)


def test_the_claims() -> None:
    flat, hollow, rising = _path(0.9, 0.89, 0.91), _path(0.9, 0.8, 0.9), _path(0.5, 0.6, 0.9)
    good, bad = (_paths(*pair) for pair in ((flat, rising), (hollow, flat)))
    for judge in (judge_line, judge_curve, judge_pretrained):
        assert judge([good]).holds
        assert not judge([good, bad]).holds


def test_two_models_that_have_learned_nothing_prove_nothing() -> None:
    found = [_paths(_path(0.9, 0.62), _path(0.6, 0.62))]
    assert not judge_line(found).holds
    assert not judge_curve(found).holds
