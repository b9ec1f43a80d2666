from pathlib import Path

import pytest
import torch

from experiments.__main__ import main
from experiments.common.dissimilarity import KINDS
from experiments.errors import ExperimentOptionsError
from experiments.paper.figure5_dissimilarity import LearnedMasks, compare, random_share
from tests.support.experiments import command, picture, run, write_tasks

_LAYER = "encoder.layer.0.output.dense"


def test_figure5(tmp_path: Path, tiny_bert: str) -> None:
    values = run(tmp_path, tiny_bert, "figure5", "blocks=0-", "--seeds", "0", "1")["values"]
    assert picture(tmp_path, "figure5")
    for name in ("tasks", "learning", "seeds"):
        assert list(values[name]) == ["0", "1", "2"]
        assert list(values[name]["0"]) == list(KINDS)
    mean = sum(values["seeds"]["0"].values()) / len(KINDS)
    assert mean == pytest.approx(values["independent_random_masks"], rel=0.2)


def _masks(task: str, seed: int, before: list[bool], after: list[bool]) -> LearnedMasks:
    return LearnedMasks(task, seed, {_LAYER: torch.tensor([before])}, {_LAYER: torch.tensor([after])})


def test_what_is_compared_with_what() -> None:
    one = _masks("a", 0, [True, True, False], [True, True, True])
    other = _masks("b", 0, [True, True, False], [True, False, False])
    grids = compare([one, other], "bert")
    assert grids == {
        "tasks": {0: {"output": 2 / 4}},
        "learning": {0: {"output": (1 / 5 + 1 / 3) / 2}},
    }
    again = _masks("a", 1, [False, True, True], [False, True, True])
    assert compare([one, other, again], "bert")["seeds"] == {0: {"output": 1 / 5}}
    assert random_share([one, other]) == pytest.approx((0 + 2 / 3) / 2)


def test_masks_that_started_otherwise() -> None:
    masks = [
        _masks(task, 0, start, [True] * 2) for task, start in (("a", [True, False]), ("b", [False, True]))
    ]
    with pytest.raises(ExperimentOptionsError, match="masks of a and b don't start equal"):
        compare(masks, "bert")


def test_one_task_is_not_enough(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_tasks(tmp_path / "data")
    assert main(command(tmp_path, tiny_bert, "figure5", "--tasks", "sst2")) == 2
    assert "give --tasks two names or more" in capsys.readouterr().err
