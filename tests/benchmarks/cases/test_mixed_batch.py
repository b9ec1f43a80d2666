import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.cases import mixed_batch
from benchmarks.cases.mixed_batch import Setting
from benchmarks.peers.columns import (
    COPIES,
    KERNEL,
    NAIVE,
    OURS,
    PEFT,
    POLYLORA,
    REFERENCE,
    ROAD,
    TOLERANCES,
    TORCH,
    columns,
)
from lab.machine import processor_line
from masking.kernels import available


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figure = tmp_path / "out.json", tmp_path / "out.png"
    peers = [KERNEL, COPIES, NAIVE, PEFT, POLYLORA, ROAD]
    small = ["--shape", "tiny", "--runs", "1", "--threads", "1", "--in-use", "1", "3"]
    small += ["--dense", TORCH, "--peers", *peers]
    batches = ["--batches", "3x8", "1x4:even:0.07", "3x8:zipf"]
    assert main(["mixed_batch", "--json", str(out), "--figure", str(figure), *small, *batches]) == 0
    report = json.loads(out.read_text())
    assert report["model"]["weights"].startswith("random")
    assert report["peers"][PEFT] and report["machine"]["versions"]["torch"]
    settings = [(one["tasks"], one["tokens"], one["assignment"], one["zeros"]) for one in report["results"]]
    assert settings == [(3, 8, "even", 0.05), (3, 8, "zipf", 0.05), (1, 4, "even", 0.07)]
    for result in report["results"]:
        assert result["ratios"].keys() | result["skipped"].keys() == {*columns("fp32", [TORCH, *peers])}
        assert result["dense"] == TORCH and result["ratios"] == result["ratios_to_torch_fp32"]
        assert all(value > 0 for ratio in result["ratios"].values() for value in ratio.values())
        assert all(0 < error < TOLERANCES["fp32"] for error in result["errors"].values())
        assert result["errors"].keys() == {TORCH, OURS, COPIES, NAIVE} | ({KERNEL} if available() else set())
    assert [point["tasks"] for point in report["tasks_in_use"]] == [1, 3]
    assert all(point["relative_throughput"][OURS]["median"] > 0 for point in report["tasks_in_use"])
    assert figure.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "| 1 | 0.05 | 3x8 | zipf | torch | 1.00 (1.00) |" in printed and "| tasks in use |" in printed
    assert f"On {processor_line()}." in printed


def test_a_table_for_each_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    small = ["--shape", "tiny", "--runs", "1", "--threads", "1", "--batches", "2x4", "--in-use", "1"]
    precisions = ["--precision", "fp32", "bf16", "--dense", TORCH, "--peers", COPIES]
    assert main(["mixed_batch", "--json", str(out), *small, *precisions]) == 0
    full, half = json.loads(out.read_text())["results"]
    assert (full["precision"], half["precision"]) == ("fp32", "bf16")
    assert half["seconds"].keys() >= {REFERENCE, TORCH, COPIES}
    assert half["ratios"][TORCH] == {"min": 1.0, "median": 1.0, "cpu": 1.0}
    over_torch = half["seconds"][TORCH]["min"] / half["seconds"][REFERENCE]["min"]
    assert half["ratios_to_torch_fp32"][TORCH]["min"] == pytest.approx(over_torch)
    assert TOLERANCES["fp32"] < half["errors"][COPIES] < TOLERANCES["bf16"]
    printed = capsys.readouterr().out
    assert "\nfp32: times" in printed and "\nbf16: times" in printed


def test_a_precision_without_a_dense_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mixed_batch", "--shape", "tiny", "--precision", "int8", "--dense", TORCH]) == 1
    assert "no dense model in int8 by torch" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["16", "0x32", "16x32:some", "16x32:zipf:2", "16x32:zipf:0.05:1"])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not like"):
        Setting.parse(text)


def test_settings() -> None:
    assert Setting.parse("16x32") == Setting(16, 32, "even", 0.05)
    assert Setting.parse("4x8:zipf:0.07") == Setting(4, 8, "zipf", 0.07)
    assert {Setting.parse(batch).tasks for batch in mixed_batch.BATCHES} == {1, 4, 16, 64}
