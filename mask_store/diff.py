"""What changed between two bundles of a task: bits, sparsities, metrics, head."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mask_store.bundle import MaskBundle


@dataclass(frozen=True)
class LayerDiff:
    """One layer in two bundles.

    Attributes:
        name: Name of the layer.
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
        same_base: Whether both belong to the same base.
        same_labels: Whether labels and their order are the same.
        same_head: Whether the head tensors are bitwise the same.
        layers: One entry for each layer that either bundle has.
        metrics: By metric, its value in both; None where one lacks it.
    """

    digest_a: str
    digest_b: str
    same_base: bool
    same_labels: bool
    same_head: bool
    layers: tuple[LayerDiff, ...]
    metrics: Mapping[str, tuple[float | None, float | None]]

    @property
    def differing(self) -> int:
        """Bits that differ, over the layers that can be compared."""
        return sum(layer.differing or 0 for layer in self.layers)


def diff_bundles(a: MaskBundle, b: MaskBundle) -> BundleDiff:
    """Compare two bundles bit by bit."""
    names = dict.fromkeys([*a.masks, *b.masks])
    metrics = dict.fromkeys([*a.manifest.metrics, *b.manifest.metrics])
    return BundleDiff(
        digest_a=a.digest,
        digest_b=b.digest,
        same_base=a.manifest.base.fingerprint == b.manifest.base.fingerprint,
        same_labels=a.manifest.labels == b.manifest.labels,
        same_head=_same_head(a, b),
        layers=tuple(_diff_layer(name, a, b) for name in names),
        metrics={name: (a.manifest.metrics.get(name), b.manifest.metrics.get(name)) for name in metrics},
    )


def _diff_layer(name: str, a: MaskBundle, b: MaskBundle) -> LayerDiff:
    in_a, in_b = ({layer.name: layer for layer in bundle.manifest.layers}.get(name) for bundle in (a, b))
    differing = None
    if in_a and in_b and (in_a.rows, in_a.columns) == (in_b.rows, in_b.columns):
        differing = int(np.bitwise_count(a.masks[name] ^ b.masks[name]).sum(dtype=np.int64))
    return LayerDiff(
        name=name,
        bits=(in_a or in_b).bits,  # type: ignore[union-attr]
        differing=differing,
        sparsity_a=in_a.sparsity if in_a else None,
        sparsity_b=in_b.sparsity if in_b else None,
    )


def _same_head(a: MaskBundle, b: MaskBundle) -> bool:
    return a.head.keys() == b.head.keys() and all(
        a.head[name].shape == b.head[name].shape and a.head[name].tobytes() == b.head[name].tobytes()
        for name in a.head
    )
