from pathlib import Path

import pytest

from experiments.__main__ import main
from tests.support.experiments import command, picture, run, write_tasks
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
    assert '"paper" is an aside' in printed
    assert "| 96.4 ± 0.2 | 96.0 ± 0.4 | - | - |" in printed  # BERT-base in the paper, not compared
    assert "Seeds: 3, 4" in printed


def test_one_table_for_each_base(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = tiny_base(tmp_path / "tiny-distilbert", "distilbert")
    options = ["--tasks", "trec", "--seeds", "0", "--base", tiny_bert, other]
    report = run(tmp_path, tiny_bert, "table1", *options)
    assert list(report["values"]) == ["tiny-bert", "tiny-distilbert"]
    printed = capsys.readouterr().out
    assert "tiny-bert, best epoch on dev" in printed
    assert "tiny-distilbert, best epoch on dev" in printed


def test_the_claims_are_judged_on_these_numbers(tmp_path: Path, tiny_bert: str) -> None:
    report = run(tmp_path, tiny_bert, "table1", "--tasks", "trec", "sem", "--seeds", "1")
    gaps = {found["task"]: found["difference"] for found in report["values"]["tiny-bert"]["tasks"]}
    mean, worst = report["claims"]
    assert (mean["rule"], worst["rule"]) == ("T1a", "T1b")
    assert mean["values"]["mean difference"] == pytest.approx(sum(gaps.values()) / 2)
    assert mean["agrees"] is (sum(gaps.values()) / 2 >= -1)
    assert worst["agrees"] is (min(gaps.values()) >= -2)


@pytest.mark.parametrize("setting", ["head=trained", "trec.blocks=0-", "average=0.9", "initial_sparsity=0.1"])
def test_table1_is_the_papers_method_and_nothing_else(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    write_tasks(tmp_path / "data")
    assert main([*command(tmp_path, tiny_bert, "table1", setting), "--tasks", "trec"]) == 2
    assert f"--set {setting}: table1 is the paper's method" in capsys.readouterr().err


def test_tuned_settings_have_a_table_of_their_own(tmp_path: Path, tiny_bert: str) -> None:
    report = run(tmp_path, tiny_bert, "table1-tuned", "--tasks", "trec", "ner", "--seeds", "1")
    learned = report["learning"]
    assert learned["all tasks"]["head"] == "trained"
    assert learned["ner"]["blocks"] == "0-"
    assert learned["ner"]["head"] == "trained"
    text = (tmp_path / "out" / "table1-tuned-quick.md").read_text()
    assert "settings beyond the paper's" in text
