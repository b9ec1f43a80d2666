"""Columns of `mixed_batch`: the name of each candidate, the precisions it exists in, and what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from benchmarks.errors import BenchmarkError
from benchmarks.peers.adapters import RANK

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

TORCH, AUTOCAST, ONNX, OPENVINO = "torch", "torch_autocast", "onnxruntime", "openvino"
KERNEL, OURS = "unmasked_kernel", "ours"
COPIES, ONNX_COPIES, OPENVINO_COPIES = "copies", "onnxruntime_copies", "openvino_copies"
NAIVE, PEFT, POLYLORA, ROAD = "naive", "peft", "polylora", "road"
REFERENCE = "torch fp32"
"""Torch's dense model in fp32 where the table has it not as `TORCH`; no column of its own."""

DENSE = (TORCH, AUTOCAST, ONNX, OPENVINO)
PEERS = (KERNEL, COPIES, ONNX_COPIES, OPENVINO_COPIES, NAIVE, PEFT, POLYLORA, ROAD)
MASKED = (OURS, COPIES, ONNX_COPIES, OPENVINO_COPIES, NAIVE)
"""What computes the tasks' masks, and so has to give their logits."""

TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-5, "bf16": 0.1, "int8": 0.2}
"""Largest error of a logit, over the largest logit of the batch in float64."""


@dataclass(frozen=True)
class Column:
    """A candidate.

    Attributes:
        precisions: Those it can be had in.
        text: What it is.
        packages: What it needs of the extra "bench", by precision where that matters.
    """

    precisions: tuple[Precision, ...]
    text: str
    packages: tuple[str, ...] = ()


_ONNX_PACKAGES, _OPENVINO_PACKAGES = ("onnx", "onnxruntime"), ("openvino",)
COLUMNS: Mapping[str, Column] = {
    TORCH: Column(
        ("fp32", "bf16"), "one plain torch model on the whole batch; bf16: weights and activations"
    ),
    AUTOCAST: Column(("bf16",), "the same with weights in fp32, under torch's autocast"),
    ONNX: Column(
        ("fp32", "int8"),
        "one plain model in ONNX Runtime; int8: dynamic quantisation, weights per channel",
        _ONNX_PACKAGES,
    ),
    OPENVINO: Column(
        PRECISIONS,
        "one plain model in OpenVINO, latency hint, one stream; int8: weights and activations quantised by "
        "NNCF after training, the rest in bf16 where the processor has it",
        _OPENVINO_PACKAGES,
    ),
    KERNEL: Column(
        PRECISIONS,
        "one plain model on our kernel without masks; ours over this is what the masks themselves cost",
    ),
    OURS: Column(PRECISIONS, "ours, with one bit per weight and task"),
    COPIES: Column(
        ("fp32", "bf16"),
        "a finetuned copy per task in torch, each on its rows; what no mask touches is shared",
    ),
    ONNX_COPIES: Column(("fp32", "int8"), "a whole copy per task in ONNX Runtime", _ONNX_PACKAGES),
    OPENVINO_COPIES: Column(PRECISIONS, "a whole copy per task in OpenVINO", _OPENVINO_PACKAGES),
    NAIVE: Column(("fp32", "bf16"), "per layer and task, bits expanded and W * M multiplied, in torch"),
    PEFT: Column(
        ("fp32",),
        f"PEFT's LoRA of rank {RANK} on the same layers, adapter_names; computes something else",
        ("peft",),
    ),
    POLYLORA: Column(
        ("fp32",),
        f"PolyLoRA of rank {RANK} on the same layers; computes something else",
        ("peft", "polylora"),
    ),
    ROAD: Column(
        ("fp32",), "PEFT's RoAd on the same layers, adapter_names; computes something else", ("peft",)
    ),
}


def fastest_dense(seconds: Mapping[str, float]) -> str:
    """Return the dense model that ratios are taken over, by the seconds of all candidates.

    Raises:
        BenchmarkError: None could be run.
    """
    engines = [name for name in DENSE if name in seconds]
    if not engines:
        raise BenchmarkError("no dense model could be run")
    return min(engines, key=seconds.__getitem__)


def columns(precision: Precision, wanted: Sequence[str]) -> list[str]:
    """Return the columns of a precision: ours, and those of `wanted` that it has, in the table's order."""
    return [
        name
        for name, column in COLUMNS.items()
        if precision in column.precisions and (name == OURS or name in wanted)
    ]


def packages(precision: Precision, wanted: Sequence[str]) -> list[str]:
    """Return the packages that these columns need."""
    names = columns(precision, wanted)
    needed = dict.fromkeys(package for name in names for package in COLUMNS[name].packages)
    quantised = precision == "int8" and "openvino" in needed
    return [*needed, *["nncf"] * quantised]
