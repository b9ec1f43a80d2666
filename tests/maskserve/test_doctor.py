"""What the doctor prints, and how it ends."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from masking.kernels import self_check as checks
from masking.kernels import trials
from masking.kernels.cpu import launch as native
from masking.kernels.cpu import lines
from masking.kernels.cpu.processor import instruction_sets, processor_name
from masking.kernels.self_check import KernelCheck, Speed
from maskserve import doctor
from maskserve.__main__ import main
from tests.masking.kernels.conftest import needs_kernels
from tests.support.models import tiny_base


@pytest.fixture(autouse=True)
def settings_stay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("server.threads.compute.leave_cores_free", lambda: None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def find(monkeypatch: pytest.MonkeyPatch, *found: KernelCheck) -> None:
    """Let the self-check find this."""
    monkeypatch.setattr(checks, "self_check", lambda seconds: iter(found))


RIGHT = KernelCheck("cpu", "fp32", "numba, AVX2", error=1e-6, speeds=(Speed(1, 50.0, 60.0),))
ABSENT = KernelCheck("cpu", "bf16", missing="needs a better one")
WRONG = KernelCheck(
    "cpu", "bf16", "numba, AVX512-BF16", problem="wrong results: error nan", error=float("nan")
)
UNUSABLE = KernelCheck("cpu", "fp32", "numba, AVX2", problem="can't be used: RuntimeError: LLVM is unhappy")


def test_this_machine_is_well(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    told = capfd.readouterr().out
    assert f"processor:        {processor_name()}\n" in told
    assert all(one in told for one in instruction_sets())
    assert f"torch {torch.__version__}" in told
    rows = [line.split() for line in told.splitlines() if line.startswith("cpu ")]
    assert [row[1] for row in rows] == ["fp32", "bf16", "int8", "tf32", "tf32x3"]
    assert sum("(auto)" in row for row in rows) == 1
    assert told.endswith("\nWhat should run here runs, and is right.\n")


@needs_kernels
def test_json_is_one_document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find(monkeypatch, RIGHT, ABSENT)
    assert doctor.examine(as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["processor"] == processor_name()
    assert told["versions"]["torch"] == torch.__version__
    assert told["auto"]["cpu"] in {"fp32", "bf16"}
    assert 1 <= told["threads"]["server"] <= told["threads"]["cores"]
    first, second = told["checks"]
    assert first["speeds"] == [{"threads": 1, "kernel": 50.0, "torch": 60.0}]
    assert (second["missing"], second["error"]) == ("needs a better one", None)


def test_a_table_has_a_row_for_each_precision(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, RIGHT, ABSENT)
    assert doctor.examine(as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("cpu ") and line.endswith("1e-06     50 (60)") for line in lines)
    assert any(line.startswith("cpu ") and line.endswith(" needs a better one") for line in lines)


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (WRONG, "NUMBA_CACHE_DIR set to an empty folder"),
        (UNUSABLE, "Install newer packages (pip install -U numba)"),
    ],
    ids=["wrong", "unusable"],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_broken_kernel_ends_with_1_and_advice(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    found: KernelCheck,
    advice: str,
    as_json: bool,
) -> None:
    find(monkeypatch, RIGHT, found)
    assert doctor.examine(as_json) == 1
    told = capsys.readouterr().out
    assert "What should run" not in told
    if as_json:
        document = json.loads(told, parse_constant=pytest.fail)
        assert document["ok"] is False
        (told,) = document["advice"]
    assert f"{found.device} {found.precision}: {found.problem}. " in told
    assert advice in told


@needs_kernels
def test_a_kernel_that_computes_nonsense_ends_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "masked_product", lambda inputs, weight, *_: inputs @ weight.T)
    nonsense = lambda inputs, layers, *_: [inputs.float() @ layers[0].weight.expand().float().T]  # noqa: E731
    monkeypatch.setattr(lines, "line_products", nonsense)
    assert doctor.examine(as_json=False) == 1
    assert "cpu fp32: wrong results: error " in capsys.readouterr().out


def test_without_numba_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in checks, trials:
        monkeypatch.setattr(module, "installed", lambda package: package not in {"numba", "llvmlite"})
    monkeypatch.setattr(checks, "kernel_folder", lambda: None)
    monkeypatch.setattr(native, "available", lambda: False)
    assert doctor.examine(as_json=False) == 0
    told = capsys.readouterr().out
    assert "numba not installed, llvmlite not installed" in told
    assert "torch, folded copies" in told
    assert "pip install 'maskserve[serve]'" in told


def test_a_check_that_kills_its_process_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert doctor.run_apart("doctor", _die) == 1
    told = capfd.readouterr().err
    assert told.startswith("doctor: SIGILL ended the check. ")
    assert told.count("\n") == 1


def _die() -> None:
    os.kill(os.getpid(), signal.SIGILL)


def test_an_encoder_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, RIGHT)
    folder = tiny_base(tmp_path, "modernbert")
    assert doctor.examine(as_json=False, base=folder) == 0
    told = capsys.readouterr().out
    assert "modernbert, 3 blocks (layers), masked in each: attn.Wqkv, attn.Wo, mlp.Wi, mlp.Wo\n" in told
    assert "rows of a batch:  packed: " in told
    assert doctor.examine(as_json=True, base=str(tmp_path / "nowhere")) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["base"]["problem"] in found["advice"]
    assert "no such folder" in found["base"]["problem"]
