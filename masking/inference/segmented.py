"""Segmented batch: the masks and segments of the batch that is being computed, for its masked layers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from masking.inference.resident import ResidentWeights
from masking.inference.signs import SignedSegments
from masking.kernels import LinearMask, Segments, masked_linear
from masking.kernels.cpu.lines import Finish, LineLayer, LineMask, add_and_normalise, line_products


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
        segments: Of the tokens that are computed with masks, the batch's first.
        masks: By layer name, per segment its mask or None.
        weights: The layers, in the form in which they are multiplied.
        addresses: On CUDA by layer name, where the kernel finds the masks; see `mask_addresses`.
        signed: The segments after them, which are computed with signs; None where there are none.
        read: What is read of the last block, where that is less than all tokens and one can tell; else None.
    """

    segments: Segments
    masks: Mapping[str, Sequence[LinearMask | None]]
    weights: ResidentWeights
    addresses: Mapping[str, Tensor] = field(default_factory=dict)
    signed: SignedSegments | None = None
    read: "ReadTokens | None" = None

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of what lies between two layers of a block."""
        return torch.float32 if self.weights.precision == "fp32" else torch.bfloat16

    def linear(self, name: str, inputs: Tensor, layer: LinearTensors) -> Tensor:
        """Compute a layer under each segment's mask or signs, in the dtype of its inputs.

        Args:
            name: Name of the layer.
            inputs: float32 [tokens, columns].
            layer: The layer's own weight [rows, columns] and bias [rows] or None.

        Returns:
            float32 [tokens, rows].
        """
        if name in self.weights.lines:
            return self.products((name,), inputs.to(self.dtype), Finish.FLOAT32)[0]
        (outputs,) = self._in_parts(
            (inputs,),
            lambda part: [self._masked(name, part, layer)],
            lambda signed, part: [signed.linear(name, part, layer.weight)],
        )
        return outputs

    def products(
        self, names: Sequence[str], inputs: Tensor, finish: Finish = Finish.BFLOAT16
    ) -> list[Tensor]:
        """Compute layers of the blocks, from the same inputs, under each segment's masks or signs.

        Args:
            names: Names of the layers.
            inputs: [tokens, columns], in this dtype.
            finish: What becomes of the sums.

        Returns:
            Per layer [tokens, rows], bfloat16 or float32.
        """
        precisions = {self.weights.lines[name].precision for name in names}
        if len(precisions) > 1:
            return [self.products((name,), inputs, finish)[0] for name in names]
        outputs = self._in_parts(
            (inputs.to(torch.float32 if precisions == {"fp32"} else torch.bfloat16),),
            lambda part: line_products(part, self._layers(names), self.segments, finish),
            lambda signed, part: signed.products(names, part, finish),
        )
        return outputs if finish == Finish.FLOAT32 else [one.to(inputs.dtype) for one in outputs]

    def embed(self, name: str, ids: Tensor, outputs: Tensor) -> None:
        """Put rows that copies have of their own in place of the base's; see `SignedSegments.embed`."""
        if self.signed is not None:
            edge = self.segments.tokens
            self.signed.embed(name, ids[edge:], outputs[edge:])

    def normalise(self, name: str, sums: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Compute LayerNorm(sums + residual) of a block; see `add_and_normalise`.

        Args:
            name: Name of the LayerNorm.
            sums: float32 [tokens, columns], contiguous; overwritten.
            residual: [tokens, columns], contiguous, in this dtype.
            norm: The base's own.
        """
        (outputs,) = self._in_parts(
            (sums, residual),
            lambda sums, residual: [add_and_normalise(sums, residual, norm)],
            lambda signed, sums, residual: [signed.normalise(name, sums, residual, norm.eps)],
        )
        return outputs

    def norm(self, name: str, inputs: Tensor, norm: nn.Module) -> Tensor:
        """Compute a LayerNorm or RMSNorm of float32 [tokens, width]; see `normalise`."""
        (outputs,) = self._in_parts(
            (inputs,), lambda part: [norm(part)], lambda signed, part: [signed.norm(name, part, norm)]
        )
        return outputs

    def _in_parts(
        self,
        tensors: Sequence[Tensor],
        masked: Callable[..., list[Tensor]],
        signed: Callable[..., list[Tensor]],
    ) -> list[Tensor]:
        """Compute the tokens with masks in one way and those with signs in another, and join the outputs."""
        if self.signed is None:
            return masked(*tensors)
        edge = self.segments.tokens
        if edge == 0:
            return signed(self.signed, *tensors)
        first, second = masked(*(one[:edge] for one in tensors)), [one[edge:] for one in tensors]
        return [torch.cat(pair) for pair in zip(first, signed(self.signed, *second), strict=True)]

    def _masked(self, name: str, inputs: Tensor, layer: LinearTensors) -> Tensor:
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

    def _layers(self, names: Sequence[str]) -> list[LineLayer]:
        return [
            LineLayer(self.weights.lines[name], cast(Sequence[LineMask | None], self.masks[name]))
            for name in names
        ]


@dataclass(frozen=True)
class ReadTokens:
    """Tokens that are read of a block's output: the others are computed up to its attention only.

    Attributes:
        block: Number of the block, the last one.
        places: int64 [tokens], their places among all.
        segmented: Their masks and segments.
    """

    block: int
    places: Tensor
    segmented: SegmentedBatch


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


def compute_next(batch: SegmentedBatch) -> None:
    """Compute the layers of another batch from now on, inside the context of `computing`."""
    _computed.set(batch)
