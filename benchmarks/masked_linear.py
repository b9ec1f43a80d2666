"""Masked linear layers of BERT-base: our ways against one dense model, N dense copies, and naive masking.

Every candidate's time is divided by that of ONE dense layer on the whole batch, which no way of telling tasks
apart is expected to beat by much: it is the bound. All candidates are checked against float64 first.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.machine import describe_machine
from benchmarks.timing import take_turns
from mask_store.bits import pack_bits
from masking.binarize import apply_mask
from masking.compute import (
    BitMask,
    PackedWeight,
    Segments,
    StripMask,
    available,
    masked_linear,
    reference_linear,
    warm_up,
)

BATCHES = ("16x32", "16x16", "4x64", "1x32", "1x128", "64x8")
SHAPES = ("768x768", "3072x768", "768x3072")
DENSE = "one dense"


@dataclass(frozen=True)
class Setting:
    """One cell of the table.

    Attributes:
        tasks: Tasks in the batch.
        tokens: Tokens of each.
        rows: Outputs of the layer.
        columns: Inputs of the layer.
        zeros: Share of zeros of each mask.
        threads: Threads of torch and of the kernels.
    """

    tasks: int
    tokens: int
    rows: int
    columns: int
    zeros: float
    threads: int


@dataclass(frozen=True)
class Layer:
    """Inputs, weight and masks of a setting."""

    inputs: Tensor
    weight: Tensor
    bias: Tensor
    segments: Segments
    masks: list[NDArray[np.bool_]]

    @classmethod
    def random(cls, setting: Setting) -> "Layer":
        """Normal values, independent masks; always the same for a setting."""
        generator = np.random.default_rng(0)
        shape = setting.rows, setting.columns
        masks = [generator.random(shape, np.float32) >= setting.zeros for _ in range(setting.tasks)]
        sizes = (setting.tasks * setting.tokens, setting.columns), shape, (setting.rows,)
        inputs, weight, bias = (torch.from_numpy(generator.standard_normal(one, np.float32)) for one in sizes)
        return cls(inputs, weight, bias, Segments.of_lengths([setting.tokens] * setting.tasks), masks)


def candidates(layer: Layer) -> dict[str, Callable[[], Tensor]]:
    """All ways to compute the layer, the bound first."""
    inputs, weight, bias, segments = layer.inputs, layer.weight, layer.bias, layer.segments
    bits = [BitMask(pack_bits(mask), mask.shape[1]) for mask in layer.masks]
    copies = [apply_mask(weight, torch.from_numpy(mask)) for mask in layer.masks]

    def dense_copies() -> Tensor:
        return torch.cat(
            [F.linear(inputs[a:b], one, bias) for (a, b), one in zip(segments.spans(), copies, strict=True)]
        )

    ways: dict[str, Callable[[], Tensor]] = {
        DENSE: lambda: F.linear(inputs, weight, bias),
        "N dense copies": dense_copies,
        "expand bits per task": lambda: masked_linear(inputs, weight, bias, segments, bits, method="fold"),
    }
    return ways | _numba_ways(layer, bits) if available() else ways


def _numba_ways(layer: Layer, bits: list[BitMask]) -> dict[str, Callable[[], Tensor]]:
    from benchmarks.dropped import DroppedColumns, dropped_linear  # noqa: PLC0415 (needs numba)

    common = layer.inputs, layer.weight, layer.bias, layer.segments
    strips = [StripMask.of(one) for one in bits]
    dropped = [DroppedColumns.of(mask) for mask in layer.masks]
    packed = PackedWeight(layer.weight)
    return {
        "sparse correction": lambda: dropped_linear(*common, dropped),
        "kernel": lambda: masked_linear(*common, strips, method="kernel"),
        "kernel, packed weight": lambda: masked_linear(
            *common, strips, method="kernel", packed_weight=packed
        ),
    }


def largest_error(layer: Layer, outputs: Tensor) -> float:
    """Largest error relative to the largest output, against float64."""
    masks = [torch.from_numpy(mask) for mask in layer.masks]
    doubles = layer.inputs.double(), layer.weight.double(), layer.bias.double()
    exact = reference_linear(*doubles, layer.segments, masks)
    return float((outputs - exact).abs().max() / exact.abs().max())


def measure(setting: Setting, runs: int) -> dict[str, object]:
    """Errors, seconds and ratios of all candidates at one setting."""
    torch.set_num_threads(setting.threads)
    layer = Layer.random(setting)
    ways = candidates(layer)
    errors = {name: largest_error(layer, run()) for name, run in ways.items() if name != DENSE}
    times = take_turns(ways, runs)
    return {
        **asdict(setting),
        "dense_seconds": times[DENSE].best,
        "errors": errors,
        "ratios": {name: one.ratios(times[DENSE]) for name, one in times.items() if name != DENSE},
    }


def settings(arguments: argparse.Namespace) -> Iterator[Setting]:
    """All combinations that the arguments name."""
    lists = arguments.threads, arguments.zeros, arguments.batches, arguments.shapes
    for threads, zeros, batch, shape in product(*lists):
        tasks, tokens = map(int, batch.split("x"))
        rows, columns = map(int, shape.split("x"))
        yield Setting(tasks, tokens, rows, columns, zeros, threads)


def _row(result: dict[str, object]) -> str:
    ratios = result["ratios"]
    assert isinstance(ratios, dict)
    cells = "".join(f" {one['min']:.2f} ({one['median']:.2f}) |" for one in ratios.values())
    setting = "| {threads} | {zeros:.2f} | {tasks}x{tokens} | {rows}x{columns} |"
    return setting.format_map(result) + cells


def table(results: Sequence[dict[str, object]]) -> str:
    """A Markdown table: ratios of the fastest runs, of the medians in brackets."""
    ratios = results[0]["ratios"]
    assert isinstance(ratios, dict)
    head = ["threads", "zeros", "batch", "layer", *ratios]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *map(_row, results)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--runs", type=int, default=15, help="runs of each candidate")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.05, 0.07, 0.10])
    parser.add_argument("--batches", nargs="+", default=list(BATCHES), help="tasks x tokens of each")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="rows x columns")


def main(arguments: argparse.Namespace) -> int:
    """Measures all settings, prints the table, writes the JSON."""
    if available():
        warm_up()
    before = torch.get_num_threads()
    with torch.inference_mode():
        results = [measure(setting, arguments.runs) for setting in settings(arguments)]
    torch.set_num_threads(before)
    print(table(results))
    report = {"benchmark": "masked_linear", "machine": describe_machine(), "results": results}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0
