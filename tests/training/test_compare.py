import json
from pathlib import Path

import pytest

from mask_store import MaskStore
from tests.support.learning_data import command_line
from tests.support.models import tiny_base
from tests.training.runs.test_results import result
from training.compare import comparison_table, main
from training.options import DEFAULT_LR, Method


def test_both_methods_run_for_every_seed_once(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command_line(tmp_path, tiny_bert), "--seeds", "1", "2", "--json", "--quiet"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    runs = json.loads(printed)
    assert [(run["method"], run["seed"], run["lr"]) for run in runs] == [
        (method, seed, lr) for seed in (1, 2) for method, lr in DEFAULT_LR.items()
    ]
    assert all(run["metric"] == "accuracy" and 0 <= run["value"] <= 1 for run in runs)
    assert runs[1]["nbytes"] > 20 * runs[0]["nbytes"]
    store = MaskStore.open(tmp_path / "store")
    assert len(store.versions("demo")) == 2

    assert main(arguments) == 0
    assert capsys.readouterr().out == printed
    assert len(store.versions("demo")) == 2

    folder = tmp_path / "run-compare"
    assert json.loads((folder / "comparison.json").read_text()) == runs
    assert "Against finetuning" in (folder / "report.html").read_text(encoding="utf-8")


def test_nothing_is_published_without_a_store(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command_line(tmp_path, tiny_bert, store=""), "--finetune-lr", "0.001"]) == 0
    printed = capsys.readouterr()
    assert "masking, seed 0, lr 0.001" in printed.err
    assert "finetuning, seed 0, lr 0.001" in printed.err
    assert printed.out.startswith("demo: dev accuracy over 1 seed(s)")
    assert not (tmp_path / "store").exists()


def test_with_the_preset_each_method_has_the_papers_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_base(tmp_path / "bert-base-uncased", positions=128)
    left_out = dict.fromkeys(("store", "max_length", "blocks", "epochs"), "")
    arguments = command_line(tmp_path, base, task="sst2", **left_out)
    assert main([*arguments, "--preset", "paper", "--seeds", "1"]) == 0
    told = capsys.readouterr().err
    assert "masking, seed 1, lr 0.0005: " in told
    assert "finetuning, seed 1, lr 1e-05: " in told


def test_the_table_gives_mean_and_deviation_over_seeds() -> None:
    values: dict[Method, tuple[float, float]] = {"mask": (0.9, 0.92), "finetune": (0.94, 0.94)}
    runs = [
        result(0.1, 0.5, value, method=method, seed=seed, nbytes=1234567, seconds=2.0)
        for method, own in values.items()
        for seed, value in enumerate(own)
    ]
    title, _, masking, finetuning, difference = comparison_table("demo", runs).splitlines()
    assert title == "demo: dev accuracy over 2 seed(s), in percent"
    assert masking.split() == ["masking", "91.00", "1.41", "1,234,567", "bytes", "2", "s"]
    assert finetuning.split() == ["finetuning", "94.00", "0.00", "1,234,567", "bytes", "2", "s"]
    assert difference.split() == ["difference", "-3.00"]


def test_runs_that_diverged_are_left_out_and_told() -> None:
    runs = [result(0.1, 0.5, seed=0), result(0.1, seed=1, end="diverged", nbytes=0)]
    runs += [result(0.1, seed=seed, method="finetune", end="diverged", nbytes=0) for seed in (0, 1)]
    _, _, masking, finetuning, _ = comparison_table("demo", runs).splitlines()
    assert masking.split()[1:3] == ["50.00", "-"]
    assert masking.endswith("1 of 2 diverged")
    assert finetuning.endswith("2 of 2 diverged")


def test_bad_input_is_one_line_and_exit_code_two(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command_line(tmp_path, tiny_bert, lr="-1")) == 2
    assert capsys.readouterr().err.startswith("error: --lr")
    assert main([*command_line(tmp_path, tiny_bert), "--finetune-lr", "-1"]) == 2
    assert capsys.readouterr().err.startswith("error: --finetune-lr")


def test_seeds_are_given_once_and_in_one_way(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command_line(tmp_path, tiny_bert), "--seed", "1", "--seeds", "2", "2"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in told] == [" --seed and --seeds", " --seeds"]
