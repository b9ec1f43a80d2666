"""What the self-check finds of kernels that work, and of broken ones."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from masking.kernels import PRECISIONS, CudaPrecision, trials
from masking.kernels import self_check as checks
from masking.kernels.cpu import launch as native
from masking.kernels.cpu import lines
from masking.kernels.cpu.processor import lacks
from masking.kernels.self_check import KernelCheck, kernel_folder, self_check
from tests.masking.kernels.conftest import needs_kernels

_WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
from masking.kernels.self_check import kernel_folder, self_check
assert kernel_folder() is None
for one in self_check(0.0):
    print(one.precision, one.kernel, one.missing, one.problem, sep="; ")
"""


def on_cpu() -> dict[str, KernelCheck]:
    return {one.precision: one for one in self_check(0.0) if one.device == "cpu"}


@needs_kernels
def test_what_can_run_here_is_right_and_timed(threads: int) -> None:
    found = on_cpu()
    assert tuple(found) == PRECISIONS
    for name in ("fp32", "bf16", "int8"):
        one = found[name]
        assert one.problem == ""
        if name != "fp32" and lacks(name):
            assert (one.missing, one.kernel, one.error, one.speeds) == (lacks(name), "", None, ())
            continue
        assert one.kernel.startswith("numba, ")
        assert one.missing == ""
        assert one.error is not None
        assert 0 < one.error <= checks.TOLERANCES["cpu"][name]
        assert [speed.threads for speed in one.speeds] == sorted({1, threads})
        assert all(speed.kernel > 0 and speed.torch > 0 for speed in one.speeds)
    assert found["tf32"].missing == "needs CUDA"
    assert torch.get_num_threads() == threads


@needs_kernels
@pytest.mark.parametrize("value", [1.001, math.nan], ids=["wrong", "no-number"])
def test_wrong_results_are_found(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    right, right_in_lines = native.masked_product, lines.line_products

    def changed(outputs: Tensor) -> Tensor:
        outputs[-1, -1] += outputs.abs().max() * (value - 1)
        return outputs

    monkeypatch.setattr(native, "masked_product", lambda *layer: changed(right(*layer)))
    monkeypatch.setattr(lines, "line_products", lambda *layer: [changed(right_in_lines(*layer)[0])])
    found = on_cpu()["fp32"]
    assert found.problem.startswith("wrong results: error ")
    assert found.error is not None
    assert not found.error <= 1e-5
    assert found.speeds == ()


@needs_kernels
def test_a_kernel_that_can_not_be_compiled_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("LLVM is unhappy\nand says more")

    monkeypatch.setattr(native, "_kernels", broken)
    found = on_cpu()["fp32"]
    assert found.problem == "can't be used: RuntimeError: LLVM is unhappy"
    assert found.kernel.startswith("numba, ")
    assert found.error is None


def test_without_numba_torch_folds() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_NUMBA], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert done[:2] == ["fp32; torch, folded copies; ; ", "bf16; ; needs the CPU kernels (package numba); "]


@needs_kernels
def test_the_folder_of_compiled_kernels_holds_them() -> None:
    on_cpu()
    folder = kernel_folder()
    assert folder is None or list(folder.glob("kernel.*.nbi"))


@pytest.mark.parametrize("precision", checks.TOLERANCES["cuda"])
def test_the_triton_kernel_interpreted(precision: CudaPrecision, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from tests.support.kernels.triton_interpreter import interpret  # noqa: PLC0415 (needs Triton)

    interpret(monkeypatch)
    layer = trials.random_layer(48, 70, whole=False)
    trial = trials.on_device(layer, precision, torch.device("cpu"))
    assert checks._error(layer, trial) <= checks.TOLERANCES["cuda"][precision]
    assert isinstance(trial.plain(), Tensor)


@pytest.mark.gpu
def test_what_can_run_on_a_gpu_is_right_and_timed() -> None:
    found = {one.precision: one for one in self_check() if one.device == "cuda"}
    assert found["int8"].missing
    for name in checks.TOLERANCES["cuda"]:
        assert found[name].problem == ""  # type: ignore[index]
        assert [speed.threads for speed in found[name].speeds] == [0]  # type: ignore[index]
