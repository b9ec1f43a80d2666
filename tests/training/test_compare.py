import json
from pathlib import Path

import pytest

from mask_store import MaskStore
from tests.training.data import command_line
from training.compare import comparison_table, main


def test_both_methods_run_for_every_seed(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command_line(tmp_path, tiny_bert), "--seeds", "1", "2", "--json", "--quiet"]) == 0
    runs = json.loads(capsys.readouterr().out)
    assert [(run["method"], run["seed"]) for run in runs] == [
        (method, seed) for seed in (1, 2) for method in ("masking", "finetuning")
    ]
    assert all(run["metric"] == "accuracy" and 0 <= run["value"] <= 1 for run in runs)
    assert runs[1]["bytes"] > 20 * runs[0]["bytes"]
    assert len(MaskStore.open(tmp_path / "store").versions("demo")) == 2


def test_the_table_gives_mean_and_deviation_over_seeds() -> None:
    values = {"masking": (0.9, 0.92), "finetuning": (0.94, 0.94)}
    runs = [
        dict(method=method, seed=seed, metric="accuracy", value=value, bytes=1234567, seconds=2.0)
        for method, own in values.items()
        for seed, value in enumerate(own)
    ]
    title, _, masking, finetuning = comparison_table("demo", runs).splitlines()
    assert title == "demo: dev accuracy over 2 seed(s)"
    assert masking.split() == ["masking", "91.00", "1.41", "1,234,567", "2"]
    assert finetuning.split() == ["finetuning", "94.00", "0.00", "1,234,567", "2"]


def test_bad_input_is_one_line_and_exit_code_two(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command_line(tmp_path, tiny_bert, lr="-1")) == 2
    assert capsys.readouterr().err.startswith("error: --lr")
