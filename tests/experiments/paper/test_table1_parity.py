import logging
import time
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.paper.table1_parity import half_width
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
        assert (found["train_rows"], found["measured_rows"], found["split"]) == (24, 12, "dev")
    differences = [found["difference"] for found in values["tasks"]]
    assert values["mean_difference"] == pytest.approx(sum(differences) / 3)
    assert picture(tmp_path, "table1")
    printed = capsys.readouterr().out
    assert "Scale: quick" in printed
    assert '"paper" is an aside' in printed
    assert "| 96.4 ± 0.2 | 96.0 ± 0.4 | - | - |" in printed  # BERT-base in the paper, not compared
    assert "Seeds: 3, 4" in printed


def test_held_out_rows_choose_and_the_sets_own_dev_is_measured(tmp_path: Path, tiny_bert: str) -> None:
    options = ["--tasks", "trec", "--seeds", "1", "2", "--hold-out", "0.25"]
    report = run(tmp_path, tiny_bert, "table1", *options)
    (found,) = report["values"]["tiny-bert"]["tasks"]
    assert (found["train_rows"], found["measured_rows"], found["split"]) == (18, 12, "test")
    assert report["learning"]["all tasks"]["hold_out"] == 0.25
    masked, tuned = (found[method]["by_seed"] for method in ("masking", "finetuning"))
    differences = [100 * (one - other) for one, other in zip(masked, tuned, strict=True)]
    assert found["difference"] == pytest.approx(sum(differences) / 2)
    assert found["interval_95"] == pytest.approx(12.706 * abs(differences[0] - differences[1]) / 2, rel=1e-3)
    assert "measured on test" in (tmp_path / "out" / "table1-quick.md").read_text()


def test_a_machine_with_the_results_goes_on_with_them(
    tmp_path: Path, tiny_bert: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--tasks", "trec", "--seeds", "1", "--hold-out", "0.25"]
    first = run(tmp_path, tiny_bert, "table1", *options)
    assert not list((tmp_path / "runs").rglob("*.safetensors"))
    caplog.set_level(logging.INFO, logger="experiments")
    caplog.clear()
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 100)  # files are packed at another time
    assert run(tmp_path, tiny_bert, "table1", *options)["values"] == first["values"]
    assert not [message for message in caplog.messages if "seed" in message]


def test_the_run_of_the_best_rate_is_not_made_twice(
    tmp_path: Path, tiny_bert: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="experiments")
    options = ["--tasks", "trec", "--seeds", "1", "2", "--hold-out", "0.25"]
    run(tmp_path, tiny_bert, "table1", *options, "--set", "masking_lr=search", "finetuning_lr=search")
    made = [message.split(", lr")[0] for message in caplog.messages if ", seed " in message]
    assert made == ["trec: masking, seed 2", "trec: finetuning, seed 2"]


def test_half_the_width_of_an_interval_by_students_t() -> None:
    assert half_width([1.0]) is None
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / 3**0.5, rel=1e-4)


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
