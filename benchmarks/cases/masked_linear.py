"""Masked linear layers of BERT-base: our ways against one dense model, N dense copies, and naive masking.

Every candidate's time is divided by that of ONE dense layer on the whole batch, in the same precision, which
no way of telling tasks apart is expected to beat by much: it is the bound. All candidates are checked against
float64 first; a wrong one makes the command fail.

On CUDA each candidate is captured in a graph, so that what counts is the device's time, and starts with cold
caches; with --eager it is launched from Python instead. In bf16 all candidates have bfloat16 tensors; in
tf32x3 the others are in float32.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure.timing import captured, cuda_seconds, host_seconds, take_turns
from lab.machine import describe_machine
from lab.random_layers import Layer, Setting
from mask_store.format.bits import pack_bits
from masking.binarize import apply_mask
from masking.kernels import (
    BitMask,
    CudaPrecision,
    StripMask,
    WordMask,
    available,
    mask_addresses,
    masked_linear,
)
from masking.kernels.cuda import launch as cuda

SHAPES = ("768x768", "3072x768", "768x3072")
DENSE = "one dense"
Ways = dict[str, Callable[[], Tensor]]


@dataclass(frozen=True)
class Defaults:
    """What is measured on a device unless the arguments name something else."""

    batches: tuple[str, ...]
    zeros: tuple[float, ...]
    threads: tuple[int, ...]


DEFAULTS = {
    "cpu": Defaults(("16x32", "16x16", "4x64", "1x32", "1x128", "64x8"), (0.05, 0.07, 0.10), (1, 2)),
    "cuda": Defaults(("16x32", "64x128", "16x16", "4x64", "1x32", "1x128", "64x8"), (0.05,), (1,)),
}
TOLERANCES: dict[CudaPrecision, float] = {"fp32": 1e-5, "tf32x3": 1e-5, "tf32": 5e-3, "bf16": 3e-2}


def candidates(layer: Layer) -> Ways:
    """Return all ways to compute the layer on the CPU, the bound first."""
    bits = [BitMask(pack_bits(mask), mask.shape[1]) for mask in layer.masks]
    inputs, weight, bias, segments = layer.inputs, layer.weight, layer.bias, layer.segments
    ways = _dense_ways(layer, torch.float32) | {
        "expand bits per task": lambda: masked_linear(inputs, weight, bias, segments, bits, method="fold"),
    }
    return ways | _numba_ways(layer, bits) if available() else ways


def _dense_ways(layer: Layer, dtype: torch.dtype) -> Ways:
    inputs, weight, bias = (one.to(dtype) for one in (layer.inputs, layer.weight, layer.bias))
    copies = [apply_mask(weight, torch.from_numpy(mask).to(weight.device)) for mask in layer.masks]

    def dense_copies() -> Tensor:
        spans = layer.segments.spans()
        return torch.cat(
            [F.linear(inputs[a:b], one, bias) for (a, b), one in zip(spans, copies, strict=True)]
        )

    return {DENSE: lambda: F.linear(inputs, weight, bias), "N dense copies": dense_copies}


def _numba_ways(layer: Layer, bits: list[BitMask]) -> Ways:
    from benchmarks.peers.dropped import DroppedColumns, dropped_linear  # noqa: PLC0415 (needs numba)

    common = layer.inputs, layer.weight, layer.bias, layer.segments
    strips = [StripMask.of(one) for one in bits]
    dropped = [DroppedColumns.of(mask) for mask in layer.masks]
    return {
        "sparse correction": lambda: dropped_linear(*common, dropped),
        "kernel": lambda: masked_linear(*common, strips, method="kernel"),
    }


def cuda_candidates(layer: Layer, precision: CudaPrecision) -> Ways:
    """Return all ways to compute the layer on a CUDA device, the bound first; the kernel needs Triton."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    device = layer.inputs.device
    inputs, weight, bias = (one.to(dtype) for one in (layer.inputs, layer.weight, layer.bias))
    common = inputs, weight, bias, layer.segments
    masks = [WordMask.of(BitMask(pack_bits(mask), mask.shape[1]), device) for mask in layer.masks]
    addresses = mask_addresses([masks], device)[0]
    ways = _dense_ways(layer, dtype) | {
        "expand bits per task": lambda: masked_linear(*common, masks, method="fold"),
        "kernel": lambda: masked_linear(
            *common, masks, method="kernel", precision=precision, addresses=addresses
        ),
    }
    return ways if cuda.available() else {name: way for name, way in ways.items() if name != "kernel"}


def measure(setting: Setting, runs: int, *, eager: bool = False) -> dict[str, object]:
    """Measure errors, seconds and ratios of all candidates at one setting."""
    torch.set_num_threads(setting.threads)
    layer = Layer.random(setting)
    on_cuda = setting.device == "cuda"
    with _torch_precision(setting.precision):
        ways = cuda_candidates(layer, setting.precision) if on_cuda else candidates(layer)
        errors = {name: layer.largest_error(run()) for name, run in ways.items() if name != DENSE}
        timed: Mapping[str, Callable[[], object]] = ways
        if on_cuda and not eager:
            timed = {name: captured(run) for name, run in ways.items()}
        times = take_turns(timed, runs, cuda_seconds if on_cuda else host_seconds)
    return {
        **asdict(setting),
        "dense_seconds": times[DENSE].best,
        "errors": errors,
        "ratios": {name: one.ratios(times[DENSE]) for name, one in times.items() if name != DENSE},
    }


@contextmanager
def _torch_precision(precision: CudaPrecision) -> Iterator[None]:
    """Let torch's own products of float32 be in tf32 where the kernel's are."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def settings(arguments: argparse.Namespace) -> Iterator[Setting]:
    """Yield all combinations that the arguments name."""
    defaults = DEFAULTS[arguments.device]
    threads, zeros = arguments.threads or defaults.threads, arguments.zeros or defaults.zeros
    for one in product(threads, zeros, arguments.batches or defaults.batches, arguments.shapes):
        tasks, tokens = map(int, one[2].split("x"))
        rows, columns = map(int, one[3].split("x"))
        yield Setting(tasks, tokens, rows, columns, one[1], one[0], arguments.device, arguments.precision)


def wrong(result: dict[str, object]) -> list[str]:
    """Return a line for each candidate whose error is not that of its precision."""
    errors, precision = result["errors"], result["precision"]
    assert isinstance(errors, dict)
    most = TOLERANCES[precision]  # type: ignore[index]
    where = "{tasks}x{tokens}, {rows}x{columns}".format_map(result)
    return [
        f"{name} is wrong at {where}: relative error {error:.1e}, expected at most {most:.0e}"
        for name, error in errors.items()
        if not error <= most
    ]


def _row(result: dict[str, object]) -> str:
    ratios = result["ratios"]
    assert isinstance(ratios, dict)
    cells = "".join(f" {one['min']:.2f} ({one['median']:.2f}) |" for one in ratios.values())
    setting = "| {threads} | {zeros:.2f} | {tasks}x{tokens} | {rows}x{columns} |"
    return setting.format_map(result) + cells


def table(results: Sequence[dict[str, object]]) -> str:
    """Write a Markdown table: ratios of the fastest runs, of the medians in brackets."""
    ratios = results[0]["ratios"]
    assert isinstance(ratios, dict)
    head = ["threads", "zeros", "batch", "layer", *ratios]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *map(_row, results)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--device", choices=list(DEFAULTS), default="cpu")
    parser.add_argument(
        "--precision", choices=get_args(CudaPrecision), default="fp32", help="other than fp32 on cuda only"
    )
    parser.add_argument("--eager", action="store_true", help="on cuda, without CUDA graphs")
    parser.add_argument("--runs", type=int, default=15, help="runs of each candidate")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 2 on cpu, 1 on cuda")
    parser.add_argument("--zeros", type=float, nargs="+", help="default: .05 .07 .1 on cpu, .05 on cuda")
    parser.add_argument("--batches", nargs="+", help="tasks x tokens of each")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="rows x columns")


def _impossible(arguments: argparse.Namespace) -> str | None:
    if arguments.device == "cuda":
        return None if torch.cuda.is_available() else "there is no CUDA device that torch can use"
    on_cpu = arguments.precision == "fp32" and not arguments.eager
    return None if on_cpu else "--eager and precisions other than fp32 need --device cuda"


def main(arguments: argparse.Namespace) -> int:
    """Measure all settings, print the table, write the JSON.

    Returns:
        0; 1 if a candidate's results are wrong; 2 if the device or the precision is not available.
    """
    impossible = _impossible(arguments)
    if impossible:
        print(f"masked_linear: {impossible}", file=sys.stderr)
        return 2
    before = torch.get_num_threads()
    with torch.inference_mode():
        results = [measure(one, arguments.runs, eager=arguments.eager) for one in settings(arguments)]
    torch.set_num_threads(before)
    print(table(results))
    report = {"benchmark": "masked_linear", "machine": describe_machine(), "results": results}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    errors = [line for result in results for line in wrong(result)]
    print("\n".join(errors), end="\n" if errors else "", file=sys.stderr)
    return 1 if errors else 0
