import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.cases import mixed_batch
from benchmarks.cases.mixed_batch import Setting
from benchmarks.errors import WrongResultError
from benchmarks.peers.candidates import (
    COLUMNS,
    COPIES,
    KERNEL,
    LARGEST_ERROR,
    NAIVE,
    OURS,
    PEFT,
    POLYLORA,
    Candidates,
)
from benchmarks.peers.dense import exact_logits, in_float64
from lab.random_models import random_base
from lab.random_tasks import Workload, random_tasks
from masking import Base
from masking.kernels import available


@pytest.fixture(scope="module")
def base() -> Base:
    return random_base("tiny")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figure = tmp_path / "out.json", tmp_path / "out.png"
    small = ["--shape", "tiny", "--runs", "1", "--threads", "1", "--in-use", "1", "3"]
    batches = ["--batches", "3x8", "1x4:even:0.07", "3x8:zipf"]
    assert main(["mixed_batch", "--json", str(out), "--figure", str(figure), *small, *batches]) == 0
    report = json.loads(out.read_text())
    assert report["model"]["weights"].startswith("random")
    assert report["peers"][PEFT] and report["machine"]["versions"]["torch"]
    settings = [(one["tasks"], one["tokens"], one["assignment"], one["zeros"]) for one in report["results"]]
    assert settings == [(3, 8, "even", 0.05), (3, 8, "zipf", 0.05), (1, 4, "even", 0.07)]
    for result in report["results"]:
        assert result["ratios"].keys() | result["skipped"].keys() == COLUMNS.keys()
        assert all(value > 0 for ratio in result["ratios"].values() for value in ratio.values())
        assert all(0 < error < LARGEST_ERROR for error in result["errors"].values())
        assert result["errors"].keys() == {OURS, COPIES, NAIVE}
    assert [point["tasks"] for point in report["tasks_in_use"]] == [1, 3]
    assert all(point["relative_throughput"][OURS]["median"] > 0 for point in report["tasks_in_use"])
    assert figure.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "| 1 | 0.05 | 3x8 | zipf |" in printed and "| tasks in use |" in printed


def test_only_the_wanted_peers_run(base: Base) -> None:
    workload = Workload.of_counts(base, random_tasks(base, 2, 0.05), [1, 1], 4)
    ready = Candidates(base, [NAIVE], gigabytes=1.0).ready(workload)
    assert list(ready.runs) == ["one dense", OURS, NAIVE]
    assert not ready.skipped


def test_what_takes_too_much_memory_is_skipped_and_says_so(base: Base) -> None:
    workload = Workload.of_counts(base, random_tasks(base, 2, 0.05), [1, 1], 4)
    ready = Candidates(base, [COPIES], gigabytes=0.0).ready(workload)
    assert OURS in ready.runs and COPIES not in ready.runs
    assert ready.skipped[COPIES] == "skipped: 0.0 GB"


@pytest.mark.parametrize("name", [KERNEL, PEFT, POLYLORA])
def test_peers_answer_every_row(base: Base, name: str) -> None:
    if name == KERNEL and not available():
        pytest.skip("needs numba")
    workload = Workload.of_counts(base, random_tasks(base, 3, 0.05), [1, 2, 1], 5)
    with torch.inference_mode():
        ready = Candidates(base, [name], gigabytes=1.0).ready(workload)
        assert ready.runs[name]().shape == (4, 2)


def test_unmasked_kernel_computes_the_dense_model(base: Base) -> None:
    if not available():
        pytest.skip("needs numba")
    workload = Workload.of_counts(base, random_tasks(base, 3, 0.05), [1, 2, 1], 5)
    with torch.inference_mode():
        ready = Candidates(base, [KERNEL], gigabytes=1.0).ready(workload)
        torch.testing.assert_close(ready.runs[KERNEL](), ready.runs["one dense"]())


def test_wrong_answers_are_not_timed(base: Base) -> None:
    workload = Workload.of_counts(base, random_tasks(base, 2, 0.05), [1, 1], 4)
    with torch.inference_mode():
        exact = exact_logits(workload, in_float64(base))
        ready = Candidates(base, [], gigabytes=1.0).ready(workload)
        with pytest.raises(WrongResultError, match="ours"):
            ready.largest_errors(exact + 1e-3)


@pytest.mark.parametrize("text", ["16", "0x32", "16x32:some", "16x32:zipf:2", "16x32:zipf:0.05:1"])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not like"):
        Setting.parse(text)


def test_settings() -> None:
    assert Setting.parse("16x32") == Setting(16, 32, "even", 0.05)
    assert Setting.parse("4x8:zipf:0.07") == Setting(4, 8, "zipf", 0.07)
    assert {Setting.parse(batch).tasks for batch in mixed_batch.BATCHES} == {1, 4, 16, 64}
