"""Self-check: every precision of a device, right or wrong against float64, and how fast.

A random layer under random masks is multiplied as the encoder multiplies it, by the kernel if there is one.
The reference is the same product in float64 of the operands as the kernel rounds them, so what remains is the
kernel's own error. Its speed is shown beside that of torch's product without masks in the same precision.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch

from masking.kernels.cost_model import fastest
from masking.kernels.cpu.processor import NEEDED, lacks, multiplied_by
from masking.kernels.cuda import launch as cuda
from masking.kernels.precision import PRECISIONS, Precision, missing
from masking.kernels.reference import reference_linear
from masking.kernels.trials import LENGTHS, Layer, Trial, installed, random_layer, ready_layer

ROWS = COLUMNS = 768
"""Size of the layer that is timed."""
TOLERANCES = {
    "cpu": {"fp32": 1e-5, "bf16": 1e-5, "int8": 1e-5},
    "cuda": {"fp32": 1e-5, "tf32x3": 1e-5, "tf32": 5e-3, "bf16": 2**-7},
}
"""By device and precision the largest error that is right; on CUDA bf16 results are rounded to bfloat16."""
_SMALL_ROWS, _SMALL_COLUMNS = 100, 132  # whole strips of rows and groups of columns, and a rest
_MOST_SECONDS = 0.5  # of timing for each number of threads
_CAPTURED_CALLS = 20


class Speed(NamedTuple):
    """Speed of one layer, counting a product and a sum for each weight and token, masked or not.

    Attributes:
        threads: Compute threads; 0 on CUDA.
        kernel: GFLOP/s of what computes the layer under its masks.
        torch: GFLOP/s of torch's product without masks.
    """

    threads: int
    kernel: float
    torch: float


@dataclass(frozen=True)
class KernelCheck:
    """What was found of one precision on one device.

    Attributes:
        device: "cpu" or "cuda".
        precision: The precision.
        kernel: What computes masked layers; empty where the precision can't be run.
        missing: What the device lacks for the precision; empty where it lacks nothing.
        problem: What is wrong with a kernel that should work; empty where nothing is.
        error: Largest difference to float64, over the largest result; None where nothing was computed.
        speeds: One for one thread, one for all; empty where nothing was computed, or it was wrong.
    """

    device: str
    precision: Precision
    kernel: str = ""
    missing: str = ""
    problem: str = ""
    error: float | None = None
    speeds: tuple[Speed, ...] = ()


def self_check(seconds: float = 10.0) -> Iterator[KernelCheck]:
    """Check each precision on the CPU, and on CUDA where there is a device.

    Args:
        seconds: Time for all of it; speeds are measured with fewer runs where it gets short. Kernels that
            were never compiled on this machine are compiled first, which is not counted.

    Yields:
        For each device and precision what was found, once it is. Failures of any kind are told in
        `KernelCheck.problem`.
    """
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    cases = list(product(devices, PRECISIONS))
    for index, (device, precision) in enumerate(cases):
        start = time.perf_counter()
        share = seconds / (len(cases) - index)
        if lacking := missing(precision, torch.device(device)):
            yield KernelCheck(device, precision, missing=lacking)
        else:
            yield _checked(KernelCheck(device, precision, kernel_name(device, precision)), share)
        seconds = max(0.0, seconds - (time.perf_counter() - start))


def kernel_name(device: str, precision: Precision) -> str:
    """Say what computes masked layers of a precision that a device has."""
    if device == "cuda":
        return "Triton" if cuda.available() else "torch, folded copies"
    if not installed("numba"):
        return "torch, folded copies"
    if precision in NEEDED and not lacks(precision):
        return f"numba, {multiplied_by(precision)}"
    return f"numba, {platform.machine()}"


def kernel_folder() -> Path | None:
    """Return the folder where compiled kernels of the CPU are kept; None where they are not."""
    try:
        from masking.kernels.cpu.cache import folder  # noqa: PLC0415 (numba is optional and slow to import)
    except ImportError:
        return None
    return folder()


def _checked(found: KernelCheck, seconds: float) -> KernelCheck:
    try:
        with torch.inference_mode():
            return _measured(found, seconds)
    except Exception as error:  # whatever a compiler or a driver raises
        lines = str(error).strip().splitlines() or [""]
        return replace(found, problem=f"can't be used: {type(error).__name__}: {lines[0]}")


def _measured(found: KernelCheck, seconds: float) -> KernelCheck:
    """Compute a small layer, whose sizes are no multiples of a tile, and the large one; time the latter."""
    layers = [
        random_layer(rows, columns, found.precision == "int8")
        for rows, columns in ((_SMALL_ROWS, _SMALL_COLUMNS), (ROWS, COLUMNS))
    ]
    trials = [ready_layer(layer, found.device, found.precision) for layer in layers]
    errors = [_error(layer, trial) for layer, trial in zip(layers, trials, strict=True)]
    most = TOLERANCES[found.device][found.precision]
    if wrong := [error for error in errors if not error <= most]:  # one that is no number, too
        problem = f"wrong results: error {wrong[0]:.1e}, at most {most:.0e} is right"
        return replace(found, error=wrong[0], problem=problem)
    timed = _cuda_speeds if found.device == "cuda" else _cpu_speeds
    return replace(found, error=max(errors), speeds=timed(trials[-1], seconds))


def _error(layer: Layer, trial: Trial) -> float:
    exact = reference_linear(trial.inputs, trial.weight, layer.bias.double(), layer.segments, layer.masks)
    return float((trial.run().cpu().double() - exact).abs().max() / exact.abs().max())


def _cpu_speeds(trial: Trial, seconds: float) -> tuple[Speed, ...]:
    most = torch.get_num_threads()
    counts = sorted({1, most})
    speeds = []
    try:
        for threads in counts:
            torch.set_num_threads(threads)
            speeds.append(_speed(threads, [trial.run, trial.plain], seconds / len(counts)))
    finally:
        torch.set_num_threads(most)
    return tuple(speeds)


def _cuda_speeds(trial: Trial, seconds: float) -> tuple[Speed, ...]:
    """Time many calls captured in a CUDA graph, so that their launches do not count."""
    return (_speed(0, [_captured(trial.run), _captured(trial.plain)], seconds, _CAPTURED_CALLS),)


def _captured(run: Callable[[], object]) -> Callable[[], None]:
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_CAPTURED_CALLS):
            run()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay


def _speed(threads: int, ways: Sequence[Callable[[], object]], seconds: float, calls: int = 1) -> Speed:
    for run in ways:
        run()
    taken = fastest(ways, min(seconds, _MOST_SECONDS))
    operations = 2e-9 * calls * sum(LENGTHS) * ROWS * COLUMNS
    kernel, plain = (operations / one for one in taken)
    return Speed(threads, kernel, plain)
