"""Signs: layers of finetuned copies, W + a (2b - 1), in the same batches as masks.

A copy's product is that of the base and a correction, W x + a (2 B x - sum x), B the bits as a matrix. B x is
the product of a matrix of ones under the bits, so the kernels of masks compute it, in every precision; one
matrix of ones serves all layers of its shape and all tasks. Biases and LayerNorms are each segment's own, and
so are the rows of embeddings that a copy has of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mask_store import BundleMember, unpack_bits
from masking.inference.resident import ResidentWeights
from masking.kernels import LinearMask, Method, Segments, mask_addresses, masked_linear
from masking.kernels.cpu.lines import (
    Finish,
    LineLayer,
    LineMask,
    add_and_normalise,
    add_signs,
    line_products,
)


class ChangedEmbedding(NamedTuple):
    """The rows of an embedding that a copy has of its own.

    Attributes:
        places: Which rows, int64 [changed], ascending.
        values: float32 [changed, width].
    """

    places: Tensor
    values: Tensor

    def replace(self, ids: Tensor, outputs: Tensor) -> None:
        """Put the rows of its own in place of the base's.

        Args:
            ids: int64 [tokens].
            outputs: float32 [tokens, width], the base's rows of these; overwritten.
        """
        places = torch.searchsorted(self.places, ids).clamp_(max=len(self.places) - 1)
        own = (self.places[places] == ids).nonzero().flatten()
        outputs.index_copy_(0, own, self.values.index_select(0, places[own]))


@dataclass(frozen=True)
class TaskSigns:
    """The numbers of a finetuned copy's signs; its bits are in the task's masks.

    Attributes:
        scales: By layer name, float32 [rows].
        own: By the name of the base's tensor, biases and LayerNorms, float32.
        embeddings: By the name of the base's embedding, rows of its own.
    """

    scales: Mapping[str, Tensor]
    own: Mapping[str, Tensor]
    embeddings: Mapping[str, ChangedEmbedding] = field(default_factory=dict)

    @classmethod
    def of(cls, member: BundleMember, device: torch.device) -> Self:
        """Bring a bundle's numbers to a device."""
        scales, own = (
            {name: torch.from_numpy(array.copy()).to(device) for name, array in part.items()}
            for part in (member.scales, member.own)
        )
        return cls(scales, own, {name: _embedding(member, name, device) for name in member.rows})

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        numbers = [*self.scales.values(), *self.own.values()]
        return sum(tensor.nbytes for tensor in (*numbers, *(t for e in self.embeddings.values() for t in e)))


def _embedding(member: BundleMember, name: str, device: torch.device) -> ChangedEmbedding:
    values = torch.from_numpy(member.rows[name].copy())
    bits = unpack_bits(member.changed[name], member.changed[name].size * 8)[0]
    return ChangedEmbedding(torch.from_numpy(bits.nonzero()[0]).to(device), values.to(device))


class _Norm(NamedTuple):
    """What the kernel reads of a LayerNorm."""

    weight: Tensor
    bias: Tensor | None
    eps: float


@dataclass(frozen=True)
class SignedSegments:
    """The segments of a batch that are computed with signs.

    Attributes:
        segments: Of their tokens.
        signs: Of each segment.
        bits: By layer name, those of each segment, readied for the matrix of ones.
        weights: The layers, in the form in which they are multiplied.
        addresses: On CUDA by layer name, where the kernel finds the bits; see `mask_addresses`.
    """

    segments: Segments
    signs: Sequence[TaskSigns]
    bits: Mapping[str, Sequence[LinearMask]]
    weights: ResidentWeights
    addresses: Mapping[str, Tensor] = field(default_factory=dict)

    def linear(self, name: str, inputs: Tensor, weight: Tensor) -> Tensor:
        """Compute a layer that is the base's own.

        Args:
            name: Name of the layer.
            inputs: float32 [tokens, columns].
            weight: float32 [rows, columns].

        Returns:
            float32 [tokens, rows].
        """
        method: Method = "fold" if self.weights.kernels == "off" else "auto"
        precision, ones = self.weights.cuda_precision, self.weights.ones_like(weight)
        whole, bits = self._whole(), self.bits[name]
        none = whole.keep(("none", inputs.device), lambda: mask_addresses([[None]], inputs.device)[0])
        plain = masked_linear(
            *(inputs, weight, None, whole, [None]), method=method, precision=precision, addresses=none
        )
        kept = masked_linear(
            *(inputs, ones, None, self.segments, bits),
            method=method,
            precision=precision,
            addresses=self.addresses.get(name),
        )
        scales, biases = map(self._by_token, self._numbers(name))
        sums = inputs.sum(1, keepdim=True)
        return plain.add_(biases).addcmul_(scales, kept.mul_(2.0).sub_(sums))

    def _whole(self) -> Segments:
        """Return one segment of all tokens, the same for every layer."""
        return self.segments.keep("whole", lambda: Segments((0, self.segments.tokens)))

    def products(self, names: Sequence[str], inputs: Tensor, finish: Finish) -> list[Tensor]:
        """Compute layers that the line kernel multiplies, all of one precision.

        Args:
            names: Names of the layers.
            inputs: [tokens, columns], float32 for layers in float32, else bfloat16.
            finish: What becomes of the sums.

        Returns:
            Per layer [tokens, rows], float32 or bfloat16.
        """
        weights, nothing = self.weights, [None] * len(self.segments)
        plain = [LineLayer(weights.unbiased(name), nothing) for name in names]
        ones = [weights.ones_of(name) for name in names]
        kept = [
            LineLayer(one, cast(Sequence[LineMask], self.bits[name]))
            for name, one in zip(names, ones, strict=True)
        ]
        total = LineLayer(weights.row_of_ones(names[0]), nothing)
        *products, sums = line_products(inputs, [*plain, *kept, total], self.segments, Finish.FLOAT32)
        halves = zip(names, products[: len(names)], products[len(names) :], strict=True)
        return [
            add_signs((plain, kept, sums), *self._numbers(name), self.segments, finish.of(inputs.dtype))
            for name, plain, kept in halves
        ]

    def embed(self, name: str, ids: Tensor, outputs: Tensor) -> None:
        """Put each segment's own rows in place of the base's; see `ChangedEmbedding.replace`.

        Args:
            name: Name of the embedding's weight.
            ids: int64 [tokens].
            outputs: float32 [tokens, width]; overwritten.
        """
        for (start, end), one in zip(self.segments.spans(), self.signs, strict=True):
            if (own := one.embeddings.get(name)) is not None:
                own.replace(ids[start:end], outputs[start:end])

    def normalise(self, name: str, sums: Tensor, residual: Tensor, epsilon: float) -> Tensor:
        """Compute LayerNorm(sums + residual); see `add_and_normalise`."""
        parts = [
            add_and_normalise(sums[start:end], residual[start:end], cast(nn.LayerNorm, norm))
            for (start, end), norm in zip(self.segments.spans(), self._norms(name, epsilon), strict=True)
        ]
        return torch.cat(parts)

    def norm(self, name: str, inputs: Tensor, norm: nn.Module) -> Tensor:
        """Compute a LayerNorm or RMSNorm of float32 [tokens, width]; `norm` is the base's own."""
        names = [part for part, _ in norm.named_parameters()]
        parts = [
            functional_call(norm, {part: one.own[f"{name}.{part}"] for part in names}, (inputs[start:end],))
            for (start, end), one in zip(self.segments.spans(), self.signs, strict=True)
        ]
        return torch.cat(parts)

    def _norms(self, name: str, epsilon: float) -> list[_Norm]:
        return [_Norm(one.own[f"{name}.weight"], one.own.get(f"{name}.bias"), epsilon) for one in self.signs]

    def _numbers(self, name: str) -> tuple[list[Tensor], list[Tensor]]:
        """Return scales and bias of a layer, of each segment."""
        scales = [one.scales[name] for one in self.signs]
        biases = (one.own.get(f"{name}.bias") for one in self.signs)
        return scales, [
            torch.zeros_like(scale) if bias is None else bias
            for scale, bias in zip(scales, biases, strict=True)
        ]

    def _by_token(self, vectors: Sequence[Tensor]) -> Tensor:
        """Return each token's vector: [tokens, rows], or [1, rows] for a single segment."""
        stacked = torch.stack(list(vectors))
        if len(vectors) == 1:
            return stacked
        device = stacked.device
        owners = self.segments.keep(device, lambda: torch.from_numpy(self.segments.owners()).to(device))
        return stacked.index_select(0, owners)
