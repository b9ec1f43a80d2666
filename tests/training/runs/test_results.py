import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training.errors import ResultsError
from training.runs.results import Result, Results

IDENTITY: dict[str, object] = {"lr": 0.001, "labels": ("a", "b"), "data": "sha256:0"}


def result(lr: float = 0.001, *values: float, **changes: Any) -> Result:
    settings: dict[str, Any] = {"method": "mask", "seed": 0, "end": "finished", "metric": "accuracy"}
    settings |= {"nbytes": 100, "seconds": 1.5}
    settings |= {"best_epoch": values.index(max(values)) + 1 if values else 0}
    return Result(lr=lr, values=values, **(settings | changes))


def test_results_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    first, second = result(0.001, 0.5, 0.75), result(0.002, end="diverged", nbytes=0)
    results = Results(path)
    results.add(IDENTITY, first)
    results.add(IDENTITY | {"lr": 0.002}, second)
    for known in (results, Results(path)):
        assert known.get(IDENTITY) == first
        assert known.get(IDENTITY | {"lr": 0.002}) == second
        assert known.get(IDENTITY | {"data": "sha256:1"}) is None
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_runs_over_one_setting_are_told_from_others(tmp_path: Path) -> None:
    results = Results()
    for lr in (0.002, 0.001):
        results.add(IDENTITY | {"lr": lr}, result(lr, 0.5))
    results.add(IDENTITY | {"data": "sha256:1"}, result(0.004, 0.5))
    results.add(IDENTITY | {"method": "finetune"}, result(0.008, 0.5))
    assert [run.lr for run in results.over("lr", IDENTITY | {"lr": 7.0})] == [0.002, 0.001]


@pytest.mark.parametrize("rest", [1, 11, 13, 40])
def test_a_line_that_was_cut_off_is_passed_over_and_spoils_no_other(tmp_path: Path, rest: int) -> None:
    path = tmp_path / "results.jsonl"
    Results(path).add(IDENTITY, result(0.001, 0.5))
    whole = path.read_text()
    path.write_text(whole + whole[:rest])
    results = Results(path)
    results.add(IDENTITY | {"lr": 0.002}, result(0.002, 0.25))
    assert [run.lr for run in Results(path).over("lr", IDENTITY)] == [0.001, 0.002]


@pytest.mark.parametrize("line", ["{}", "[1]", "3", '{"text": "good"}', "some text", '{"identity": {}}'])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    Results(path).add(IDENTITY, result(0.001, 0.5))
    text = path.read_text() + line + "\n"
    path.write_text(text)
    with pytest.raises(ResultsError, match="line 2 is not a result of a run"):
        Results(path)
    assert path.read_text() == text


def test_an_identity_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Results(path).add(IDENTITY, result(0.001, 0.5))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": 5}) + "\n")
    with pytest.raises(ResultsError, match="line 1 is not a result of a run"):
        Results(path)


def test_a_place_that_holds_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="can't be read"):
        Results(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="can't be written"):
        Results(tmp_path / "file" / "results.jsonl").add(IDENTITY, result())


def test_a_run_that_diverged_is_worse_than_any_other() -> None:
    diverged = result(0.1, end="diverged")
    assert diverged.value < result(0.1, -1.0).value
    assert diverged.to_dict()["value"] is None
    assert str(diverged) == "lr 0.1: diverged"
    assert str(result(0.001, 0.5, 0.25)) == "lr 0.001: dev accuracy 0.5000 after 2 epochs"
    assert "stopped early" in str(result(0.001, 0.5, end="stopped"))


def test_a_run_that_was_not_measured_on_the_held_out_rows_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    measured, plain = result(0.001, 0.5, held_out={"sha256:1": {"accuracy": 0.4}}), result(0.002, 0.5)
    Results(path).add(IDENTITY, measured)
    Results(path).add(IDENTITY | {"lr": 0.002}, plain)
    Results(path).add(IDENTITY | {"lr": 0.003}, result(0.003, end="diverged"))
    asking = Results(path, held_out="sha256:1")
    assert asking.get(IDENTITY) == measured
    assert asking.get(IDENTITY | {"lr": 0.002}) is None
    assert asking.get(IDENTITY | {"lr": 0.003}) is not None, "it would diverge again"
    assert Results(path, held_out="sha256:2").get(IDENTITY) is None


def test_what_was_measured_still_counts_for_a_run_made_again_alike(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Results(path).add(IDENTITY, result(0.001, 0.5, held_out={"sha256:1": {"accuracy": 0.4}}))
    Results(path).add(IDENTITY, result(0.001, 0.5, held_out={"sha256:2": {"accuracy": 0.3}}))
    found = Results(path, held_out="sha256:1").get(IDENTITY)
    assert found is not None
    assert {digest: metrics["accuracy"] for digest, metrics in found.held_out.items()} == {
        "sha256:1": 0.4,
        "sha256:2": 0.3,
    }
    Results(path).add(IDENTITY, result(0.001, 0.75))
    assert Results(path, held_out="sha256:1").get(IDENTITY) is None


def test_weights_are_kept_where_there_is_a_folder_for_them(tmp_path: Path) -> None:
    model: Any = SimpleNamespace(learned_state=lambda: {"scores": torch.arange(6.0).reshape(2, 3)})
    path, folder = tmp_path / "results.jsonl", tmp_path / "deep" / "weights"
    results = Results(path, weights=folder)
    results.add(IDENTITY, result(0.001, 0.5), model)
    results.add(IDENTITY | {"lr": 0.002}, result(0.002, end="diverged", nbytes=0))
    again = Results(path, weights=folder)
    assert torch.equal(again.weights(IDENTITY)["scores"], model.learned_state()["scores"])
    with pytest.raises(FileNotFoundError):
        again.weights(IDENTITY | {"lr": 0.002})
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="can't be written"):
        Results(weights=tmp_path / "file").add(IDENTITY, result(0.001, 0.5), model)
