import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.__main__ import main
from masking import load_base
from tests.support.experiments import command, run, write_tasks
from tests.support.learning_data import write_lines
from tests.support.models import tiny_base
from training.data.sources import read_file
from training.runs.combining import RULES, combine


def test_table2(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path, tiny_bert, "table2", "--tasks", "trec", "ner", "--seeds", "0", "1", "2")
    groups = {(group["task"], group["method"]): group for group in report["values"]["groups"]["tiny-bert"]}
    assert set(groups) == {(task, method) for task in ("trec", "ner") for method in ("masking", "finetuning")}
    for group in groups.values():
        assert group["split"] == "dev"
        assert len(group["single"]["by_seed"]) == 3
        best = min(group["ensemble"].values())
        assert group["ensemble"][group["chosen_on_dev"]] == pytest.approx(best)
    held, base = report["values"]["megabytes"], load_base(tiny_bert).nbytes
    mask = (4 * 32 * 32 + 2 * 32 * 64 + 32 * 32) // 8
    assert held["masking"] == {
        "single": pytest.approx((base + mask) / 1e6),
        "ensemble": pytest.approx((base + 4 * mask) / 1e6),
    }
    assert held["finetuning"]["ensemble"] == pytest.approx(4 * base / 1e6)
    printed = capsys.readouterr().out
    assert "errors are on dev" in printed
    assert "Sun et al. (2019): TREC 2.80, AG 5.25" in printed
    assert report["claims"] == []  # errors on dev are not judged, and the memory is another base's


def test_the_metric_of_a_single_model_is_that_of_its_run(tmp_path: Path, tiny_bert: str) -> None:
    alone = run(tmp_path, tiny_bert, "table1", "--tasks", "sem", "--seeds", "0", "1")
    together = run(tmp_path, tiny_bert, "table6", "--tasks", "sem", "--seeds", "0", "1")
    (found,) = alone["values"]["tiny-bert"]["tasks"]
    for group in together["values"]["groups"]["tiny-bert"]:
        errors = [1 - value for value in found[group["method"]]["by_seed"]]
        assert group["single"]["by_seed"] == pytest.approx(errors)
        assert set(group["ensemble"]) == set(RULES)


def test_errors_are_on_test_where_there_is_one(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tasks(tmp_path / "data")
    shutil.copy(data / "trec" / "train.jsonl.gz", data / "trec" / "test.jsonl.gz")
    report = run(tmp_path, tiny_bert, "table2", "--tasks", "trec", "--seeds", "0", "1")
    groups = report["values"]["groups"]["tiny-bert"]
    assert {group["split"] for group in groups} == {"test"}
    singles = {group["method"]: group["single"]["mean"] for group in groups}
    together = {group["method"]: group["ensemble"][group["chosen_on_dev"]] for group in groups}
    found = {claim["rule"]: claim for claim in report["claims"]}
    assert list(found) == ["T2a", "T2b"]
    assert found["T2a"]["agrees"] is all(together[method] <= single for method, single in singles.items())
    assert found["T2b"]["values"]["single: mean difference"] == pytest.approx(
        singles["masking"] - singles["finetuning"]
    )
    assert "errors are on dev" not in capsys.readouterr().out
    rows = [dict(row.values) | {"label": "odd"} for row in read_file(data / "trec" / "test.jsonl.gz").rows]
    write_lines(data / "trec" / "test.jsonl.gz", rows)
    assert main(command(tmp_path, tiny_bert, "table2", "--tasks", "trec", "--seeds", "0", "1")) == 2
    assert "'odd'" in capsys.readouterr().err


def test_errors_are_on_the_sets_own_dev_where_rows_are_held_out_of_train(
    tmp_path: Path, tiny_bert: str
) -> None:
    options = ["--tasks", "trec", "--seeds", "0", "1", "--hold-out", "0.5"]
    report = run(tmp_path, tiny_bert, "table6", *options)
    assert {group["split"] for group in report["values"]["groups"]["tiny-bert"]} == {"test"}
    assert [claim["rule"] for claim in report["claims"]] == ["T2a", "T2b"]


def test_table6_is_one_table_a_base_without_memory(tmp_path: Path, tiny_bert: str) -> None:
    other = tiny_base(tmp_path / "tiny-distilbert", "distilbert")
    options = ["--tasks", "sem", "--seeds", "0", "1", "--base", tiny_bert, other]
    report = run(tmp_path, tiny_bert, "table6", *options)
    assert list(report["values"]["groups"]) == ["tiny-bert", "tiny-distilbert"]
    assert "megabytes" not in report["values"]


def test_an_ensemble_has_members(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_tasks(tmp_path / "data")
    assert main(command(tmp_path, tiny_bert, "table2", "--tasks", "trec", "--seeds", "0")) == 2
    assert "at least two members" in capsys.readouterr().err


def test_combine_goes_example_by_example() -> None:
    first = [np.array([3.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)]
    second = [np.array([0.0, 1.0], np.float32), np.array([0.0, 4.0], np.float32)]
    combined = combine([first, second], "logits")
    np.testing.assert_allclose(combined, [[1.5, 0.5], [0.0, 2.5]])
