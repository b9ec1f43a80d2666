"""Bundle diff: what changed between two bundles of a task, in bits, sparsities, metrics and head.

Members of ensembles are compared by their places, their layers under the names of their tensors, such as
"00.pooler.dense". A task with one learned set of masks has no layer in common with an ensemble.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mask_store.format.bits import count_ones
from mask_store.format.bundle import BundleMember, MaskBundle, Masks
from mask_store.format.mask_info import LayerBits

_Mask = tuple[LayerBits, Masks]
"""A layer, and the masks among which is its own."""


@dataclass(frozen=True)
class LayerDiff:
    """One layer in two bundles.

    Attributes:
        name: Name of the layer, after the member's place in an ensemble.
        bits: Bits of its mask, in the bundle that has it.
        differing: Bits that differ, or None if only one bundle has the layer, or each in another shape.
        sparsity_a: Share of zeros in the first bundle, or None if it lacks the layer.
        sparsity_b: Share of zeros in the second one, or None if it lacks the layer.
    """

    name: str
    bits: int
    differing: int | None
    sparsity_a: float | None
    sparsity_b: float | None


@dataclass(frozen=True)
class BundleDiff:
    """Two bundles compared.

    Attributes:
        digest_a: Digest of the first bundle.
        digest_b: Digest of the second one.
        same_base: Whether both belong to the same base, as far as both bundles tell.
        same_labels: Whether labels and their order are the same.
        same_head: Whether head tensors, and of signs all other numbers, are bitwise the same.
        same_combine: Whether members, if there are several, are combined in the same way.
        layers: One entry for each layer that either bundle has.
        metrics: By metric, its value in both; None where one lacks it.
    """

    digest_a: str
    digest_b: str
    same_base: bool
    same_labels: bool
    same_head: bool
    same_combine: bool
    layers: tuple[LayerDiff, ...]
    metrics: Mapping[str, tuple[float | None, float | None]]

    @property
    def differing(self) -> int:
        """Bits that differ, over the layers that can be compared."""
        return sum(layer.differing or 0 for layer in self.layers)


def diff_bundles(a: MaskBundle, b: MaskBundle) -> BundleDiff:
    """Compare two bundles bit by bit."""
    masks_a, masks_b = _masks(a), _masks(b)
    metrics = dict.fromkeys([*a.manifest.metrics, *b.manifest.metrics])
    return BundleDiff(
        digest_a=a.digest,
        digest_b=b.digest,
        same_base=not a.manifest.base.differing(b.manifest.base),
        same_labels=a.manifest.labels == b.manifest.labels,
        same_head=_head(a) == _head(b),
        same_combine=a.combine == b.combine,
        layers=tuple(
            _diff_layer(name, masks_a.get(name), masks_b.get(name))
            for name in dict.fromkeys([*masks_a, *masks_b])
        ),
        metrics={name: (a.manifest.metrics.get(name), b.manifest.metrics.get(name)) for name in metrics},
    )


def _diff_layer(name: str, a: _Mask | None, b: _Mask | None) -> LayerDiff:
    differing = None
    if a and b and (a[0].rows, a[0].columns) == (b[0].rows, b[0].columns):
        differing = count_ones((a[1][a[0].name] ^ b[1][b[0].name]).reshape(-1))
    return LayerDiff(
        name=name,
        bits=(a or b)[0].bits,  # type: ignore[index]
        differing=differing,
        sparsity_a=a[0].sparsity if a else None,
        sparsity_b=b[0].sparsity if b else None,
    )


def _masks(bundle: MaskBundle) -> dict[str, _Mask]:
    return {
        key + layer.name: (layer, member.masks)
        for key, member in _members(bundle)
        for layer in member.info.layers
    }


def _head(bundle: MaskBundle) -> dict[str, tuple[tuple[int, ...], bytes]]:
    return {
        f"{place}.{key}{name}": (tensor.shape, tensor.tobytes())
        for key, member in _members(bundle)
        for place, part in _numbers(member)
        for name, tensor in part.items()
    }


def _numbers(member: BundleMember) -> Iterable[tuple[str, Mapping[str, Any]]]:
    parts = {"head": member.head, "own": member.own, "scale": member.scales, "row": member.rows}
    return [*parts.items(), ("changed", member.changed)]


def _members(bundle: MaskBundle) -> Iterable[tuple[str, BundleMember]]:
    return zip(bundle.manifest.learned, bundle.members, strict=True)
