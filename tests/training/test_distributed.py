"""Two real processes on gloo, started as torchrun starts them, beside one."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mask_store import MaskStore, TaskKind
from tests.support import distributed_runs
from tests.support.learning_data import ROWS, command_line, tiny_options, without_dropout, write_lines
from tests.support.models import assert_learned_alike
from training.data.features import make_batch
from training.kinds import IGNORED
from training.learn_mask import main
from training.options import LearnOptions
from training.runs.preparation import prepare

KINDS: tuple[TaskKind, ...] = ("sequence-classification", "token-classification", "multiple-choice")
FEW_BITS = 3

# name: (options other than a small run's, what else is to happen); "dropped" cases keep the base's dropout
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{kind: ({"kind": kind}, {}) for kind in KINDS},
    "accumulated": ({"kind": "token-classification", "batch_size": 4, "accumulate": 2}, {}),
    "grouped": ({"kind": "token-classification", "group_by_length": True}, {}),
    "finetuned": ({"lr": 1e-4}, {"finetune": True}),
    "dropped-1-whole": ({}, {}),
    "dropped-2-killed": ({"save_steps": 3}, {"kill": 11}),
    "dropped-2-unread": ({"save_steps": 3}, {"full": "training.loop.trainer.load_checkpoint", "full_in": 1}),
    "dropped-3-resumed": ({"save_steps": 3}, {}),
    "no-publishing": ({}, {"full": "mask_store.MaskStore.publish", "full_in": 0}),
    "no-checkpoint": ({}, {"full": "training.loop.checkpoint.save_file", "full_in": 0}),
    "no-reading": ({}, {"full": "training.runs.preparation.load_data", "full_in": 1}),
}


def _torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=240)


def _options(
    case: Path, base: str, kind: TaskKind = "sequence-classification", **changes: Any
) -> LearnOptions:
    """A run whose last batch of an epoch is one example, so that one of two processes has none."""
    train = str(write_lines(case / "rows.jsonl", ROWS[kind](41)))
    return tiny_options(case, base, kind, **({"train": train, "lr": 1e-3, "epochs": 2} | changes))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_bert: str) -> tuple[str, str]:
    """A base with dropout, and one without."""
    return tiny_bert, without_dropout(tiny_bert, tmp_path_factory.mktemp("bases") / "no-dropout")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, bases: tuple[str, str]) -> Path:
    """Folder of all cases, each learned by two processes."""
    folder = tmp_path_factory.mktemp("pair")
    for name, (changes, happening) in CASES.items():
        case = folder / name
        case.mkdir()
        shared = {"run_dir": str(folder / "resumed")} if "save_steps" in changes else {}
        options = _options(case, bases[not name.startswith("dropped")], **(changes | shared))
        _write_case(case, options, happening)
    command = [sys.executable, "-m", "tests.support.distributed_runs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder


def _write_case(folder: Path, options: LearnOptions, happening: dict[str, Any]) -> None:
    case = {"options": options.model_dump(by_alias=True), **happening}
    (folder / "case.json").write_text(json.dumps(case))


def _outcomes(case: Path) -> Sequence[dict[str, Any]]:
    return [json.loads((case / f"outcome-{rank}.json").read_text()) for rank in (0, 1)]


def _learned(case: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(case / f"learned-{rank}.safetensors")


def _differing_bits(one: str, other: str) -> int:
    """How many mask bits differ between two stores' tasks."""
    a, b = (MaskStore.open(store).load("demo").members[0].masks for store in (one, other))
    return sum(int(np.unpackbits(a[layer] ^ b[layer]).sum()) for layer in a)


@pytest.mark.parametrize("name", [*KINDS, "accumulated", "grouped", "finetuned"])
def test_two_processes_learn_what_one_does(
    pair: Path, bases: tuple[str, str], tmp_path: Path, name: str
) -> None:
    changes, happening = CASES[name]
    if "accumulate" in changes:
        changes = changes | {"accumulate": 1, "batch_size": changes["batch_size"] * changes["accumulate"]}
    options = _options(tmp_path, bases[1], **changes)
    _write_case(tmp_path, options, happening)
    alone = distributed_runs.run(tmp_path)
    first, second = _outcomes(pair / name)

    for key in ("metrics", "best_epoch"):
        assert first[key] == second[key] == alone[key]
    expected, mine, other = _learned(tmp_path), _learned(pair / name), _learned(pair / name, 1)
    assert_learned_alike(options.kind, mine, expected)
    assert all(torch.equal(mine[key], other[key]) for key in expected)
    if not happening:
        assert _differing_bits(str(options.store), str(pair / name / "store")) <= FEW_BITS


def test_the_first_process_alone_speaks(pair: Path) -> None:
    first, second = _outcomes(pair / KINDS[0])
    assert first["said"] > 0
    assert second["said"] == 0
    assert MaskStore.open(pair / KINDS[0] / "store").current("demo").number == 1
    assert json.loads((pair / KINDS[0] / "run" / "report.json").read_text())["version"] == 1


def test_a_killed_run_of_two_ends_as_if_nothing_had_happened(pair: Path) -> None:
    killed = _outcomes(pair / "dropped-2-killed")
    assert [outcome["message"] for outcome in killed] == ["killed", "killed"]
    whole, resumed = _learned(pair / "dropped-1-whole"), _learned(pair / "dropped-3-resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    stores = [str(pair / name / "store") for name in ("dropped-1-whole", "dropped-3-resumed")]
    assert _differing_bits(*stores) == 0


@pytest.mark.parametrize(
    ("name", "failing"),
    [("no-publishing", 0), ("no-checkpoint", 0), ("no-reading", 1), ("dropped-2-unread", 1)],
)
def test_what_fails_in_one_process_ends_both(pair: Path, name: str, failing: int) -> None:
    outcomes = _outcomes(pair / name)
    assert outcomes[failing]["error"] in {"OSError", "RunFolderError"}
    assert outcomes[1 - failing]["error"] == "OtherProcessError"
    assert f"process {failing}: " in outcomes[1 - failing]["message"]
    for outcome in outcomes:
        assert "No space left on device" in outcome["message"]
        assert outcome["code"] == 1


@pytest.mark.slow
def test_the_command_prints_once_and_learns_what_one_process_does(
    bases: tuple[str, str], tmp_path: Path
) -> None:
    done = _torchrun("-m", "training.learn_mask", *command_line(tmp_path, bases[1], epochs="2"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1
    lines = done.stderr.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert sum(line.endswith("on cpu, 2 processes") for line in lines) == 1
    one = tmp_path / "alone"
    one.mkdir()
    assert main([*command_line(one, bases[1], epochs="2"), "--quiet"]) == 0
    assert _differing_bits(str(tmp_path / "store"), str(one / "store")) <= FEW_BITS


@pytest.mark.slow
def test_the_command_tells_bad_input_once(bases: tuple[str, str], tmp_path: Path) -> None:
    done = _torchrun("-m", "training.learn_mask", *command_line(tmp_path, bases[1], blocks="7"))
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert told == ["error: --blocks 7: base no-dropout: this encoder has blocks 0 to 2; it has no block 7"]
    assert "exitcode  : 2" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_a_batch_make_up_the_batch(
    tiny_bert: str, tmp_path: Path, kind: TaskKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert, kind))
    items = ready.encoded.train[:2]
    targets = [len(item.target) for item in items]
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank, own in enumerate((*targets, 0)):
        monkeypatch.setenv("RANK", str(rank))
        batch = make_batch(items, kind, ready.base.tokenizer)
        assert int((batch.targets != IGNORED).sum()) == own
        assert batch.total == sum(targets)
