import pytest

from experiments.common.scales import FULL, describe, quick_scale, read_rows, read_settings, scale_of
from experiments.errors import ExperimentOptionsError
from training.options import PRESETS


def test_without_changes() -> None:
    assert scale_of(True, (), "trec") == quick_scale()
    assert scale_of(False, (), "trec") == FULL
    assert FULL.options == PRESETS["paper"]
    assert describe(FULL) == {
        "train_rows": "all",
        "dev_rows": "all",
        "masking_lr": "paper",
        "finetuning_lr": "paper",
    }


def test_two_of_the_papers_tasks_have_larger_batches() -> None:
    assert {task: scale_of(False, (), task).options["batch_size"] for task in ("qnli", "agnews", "sst2")} == {
        "qnli": 128,
        "agnews": 128,
        "sst2": 32,
    }
    assert scale_of(True, (), "qnli") == quick_scale()
    assert scale_of(False, read_settings(["batch_size=8"]), "qnli").options["batch_size"] == 8


def test_a_rate_is_a_number_or_where_it_comes_from() -> None:
    changes = read_settings(["masking_lr=search", "finetuning_lr=paper", "trec.masking_lr=0.5"])
    assert scale_of(True, changes, "sst2").rates == {"masking": "search", "finetuning": "paper"}
    assert scale_of(True, changes, "trec").rates == {"masking": 0.5, "finetuning": "paper"}


def test_changes_for_a_task_go_before_those_for_all() -> None:
    changes = [
        *read_rows(["sst2=6000/872", "500/all"]),
        *read_settings(["sst2.epochs=5", "epochs=7", "sst2.masking_lr=0.002", "precision=bf16"]),
    ]
    sst2, trec = (scale_of(False, changes, task) for task in ("sst2", "trec"))
    assert (sst2.train_rows, sst2.dev_rows) == (6000, 872)
    assert (trec.train_rows, trec.dev_rows) == (500, None)
    assert sst2.options == {**PRESETS["paper"], "epochs": 5, "precision": "bf16"}
    assert trec.options == {**PRESETS["paper"], "epochs": 7, "precision": "bf16"}
    assert sst2.rates == {**FULL.rates, "masking": 0.002}
    assert trec.rates == FULL.rates


@pytest.mark.parametrize("text", ["5", "5/", "0/5", "nix=5/5", "-1/5", "five/5"])
def test_rows_that_are_none(text: str) -> None:
    with pytest.raises(ExperimentOptionsError):
        read_rows([text])


_NO_NAME = ("epochs", "nix=1", "nix.epochs=1", "lr=1", "seed=1", "train=x", "epochs=")
_NO_VALUE = ("epochs=x", "epochs=2.5", "epochs=true", "group_by_length=1", "masking_lr=x", "threads=1.5")


@pytest.mark.parametrize("text", [*_NO_NAME, *_NO_VALUE])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(ExperimentOptionsError):
        read_settings([text])


def test_a_setting_has_the_type_of_its_option() -> None:
    texts = ["blocks=2", "group_by_length=true", "initial_sparsity=0.1", "threads=2", "tensorboard=logs"]
    assert [change.value for change in read_settings(texts)] == ["2", True, 0.1, 2, "logs"]


def test_null_takes_back_for_a_task_what_all_have() -> None:
    changes = read_settings(["average=0.98", "trec.average=null"])
    assert scale_of(True, changes, "trec").options["average"] is None
    assert scale_of(True, changes, "sst2").options["average"] == 0.98
