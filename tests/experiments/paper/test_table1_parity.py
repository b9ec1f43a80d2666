from pathlib import Path

import pytest

from experiments.common.scores import Scores
from experiments.paper.table1_parity import Pair, Side, judge
from tests.support.experiments import picture, run
from tests.support.models import tiny_base


def test_table1(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path, tiny_bert, "table1", "--tasks", "trec", "ner", "codah", "--seeds", "3", "4")
    values = report["values"]["tiny-bert"]
    assert [found["task"] for found in values["tasks"]] == ["trec", "ner", "codah"]
    assert [found["metric"] for found in values["tasks"]] == ["accuracy", "f1", "accuracy"]
    for found in values["tasks"]:
        masked, tuned = found["masking"], found["finetuning"]
        assert len(masked["by_seed"]) == len(tuned["by_seed"]) == 2
        assert found["difference"] == pytest.approx(masked["mean"] - tuned["mean"])
        assert masked["bytes"] < tuned["bytes"] / 8
        assert (found["train_rows"], found["dev_rows"]) == (24, 12)
    differences = [found["difference"] for found in values["tasks"]]
    assert values["mean_difference"] == pytest.approx(sum(differences) / 3)
    assert picture(tmp_path, "table1")
    printed = capsys.readouterr().out
    assert "Scale: quick" in printed
    assert "not available to this project" in printed
    assert "Seeds: 3, 4" in printed


def test_one_table_for_each_base(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = tiny_base(tmp_path / "tiny-distilbert", "distilbert")
    options = ["--tasks", "trec", "--seeds", "0", "--base", tiny_bert, other]
    report = run(tmp_path, tiny_bert, "table1", *options)
    assert list(report["values"]) == ["tiny-bert", "tiny-distilbert"]
    printed = capsys.readouterr().out
    assert "tiny-bert, best epoch on dev" in printed
    assert "tiny-distilbert, best epoch on dev" in printed


def _pair(difference: float) -> Pair:
    tuned, masked = (Side(Scores((value,)), 1, 1.0) for value in (0.8, 0.8 + difference / 100))
    return Pair("trec", "accuracy", (1, 1), {"finetuning": tuned, "masking": masked})


@pytest.mark.parametrize(
    ("differences", "holds"),
    [([0.0, -0.9], True), ([-0.6, -0.6], False), ([5.0, -2.1], False), ([1.5, -1.9], True)],
)
def test_the_claim(differences: list[float], holds: bool) -> None:
    assert judge([_pair(difference) for difference in differences]).holds is holds
