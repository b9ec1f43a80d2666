"""Segmented batch: the masks and segments of the batch that is being computed, for its masked layers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor

from masking.inference.resident import ResidentWeights
from masking.kernels import LinearMask, Segments, masked_linear
from masking.kernels.cpu.lines import Finish, LineLayer, LineMask, line_products


class LinearTensors(Protocol):
    """The tensors of a linear layer."""

    @property
    def weight(self) -> Tensor:
        """Weight, float32 [rows, columns]."""

    @property
    def bias(self) -> Tensor | None:
        """Bias, float32 [rows], or None."""


@dataclass(frozen=True)
class SegmentedBatch:
    """Masks and segments of a batch.

    Attributes:
        segments: Of the batch's tokens.
        masks: By layer name, per segment its mask or None.
        weights: The layers, in the form in which they are multiplied.
        addresses: On CUDA by layer name, where the kernel finds the masks; see `mask_addresses`.
    """

    segments: Segments
    masks: Mapping[str, Sequence[LinearMask | None]]
    weights: ResidentWeights
    addresses: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of what lies between two layers of a block."""
        return torch.float32 if self.weights.precision == "fp32" else torch.bfloat16

    def linear(self, name: str, inputs: Tensor, layer: LinearTensors) -> Tensor:
        """Compute a layer under each segment's mask, in the dtype of its inputs.

        Args:
            name: Name of the layer.
            inputs: float32 [tokens, columns].
            layer: The layer's own weight [rows, columns] and bias [rows] or None.

        Returns:
            float32 [tokens, rows].
        """
        if name in self.weights.lines:
            return self.products((name,), inputs.to(self.dtype), Finish.FLOAT32)[0]
        return masked_linear(
            inputs,
            layer.weight,
            layer.bias,
            self.segments,
            self.masks[name],
            method="fold" if self.weights.kernels == "off" else "auto",
            precision=self.weights.cuda_precision,
            addresses=self.addresses.get(name),
        )

    def products(
        self, names: Sequence[str], inputs: Tensor, finish: Finish = Finish.BFLOAT16
    ) -> list[Tensor]:
        """Compute layers of the blocks, from the same inputs, under each segment's masks.

        Args:
            names: Names of the layers.
            inputs: [tokens, columns], in this dtype.
            finish: What becomes of the sums.

        Returns:
            Per layer [tokens, rows], bfloat16 or float32.
        """
        layers = [
            LineLayer(self.weights.lines[name], cast(Sequence[LineMask | None], self.masks[name]))
            for name in names
        ]
        precisions = {layer.weight.precision for layer in layers}
        if len(precisions) > 1:
            return [self.products((name,), inputs, finish)[0] for name in names]
        own = torch.float32 if precisions == {"fp32"} else torch.bfloat16
        outputs = line_products(inputs.to(own), layers, self.segments, finish)
        return outputs if finish == Finish.FLOAT32 else [one.to(inputs.dtype) for one in outputs]


_computed: ContextVar[SegmentedBatch] = ContextVar("computed")


def computed() -> SegmentedBatch:
    """Return the batch that is being computed."""
    return _computed.get()


@contextmanager
def computing(batch: SegmentedBatch) -> Iterator[None]:
    """Compute the layers of this batch, inside the context."""
    token = _computed.set(batch)
    try:
        yield
    finally:
        _computed.reset(token)
