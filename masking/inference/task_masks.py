"""All masks of one task in one form, and how one form is made from another.

  packed    1 bit per weight, as the kernel reads it; every loaded task has it
  unpacked  one boolean per weight: spares the expanding where a layer is folded for each batch
  folded    W * M in fp32, 4 bytes per weight: a masked layer costs what a plain one does

Where the kernels run, packed masks are as fast as any form. Which forms are kept in memory is decided by
the server's cache, how a layer is computed with them by `masking.kernels`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mask_store import LayerInfo
from mask_store.format.bits import PackedArray
from masking.kernels import BoolMask, ExpandableMask, FoldedMask, LinearMask, kernel_runs, ready_mask

MaskForm = Literal["packed", "unpacked", "folded"]


@dataclass(frozen=True)
class LayerMasks:
    """The masks of a task's layers; immutable.

    Attributes:
        form: Name of the form.
        layers: By layer name; what is not named is not masked.
    """

    form: MaskForm
    layers: Mapping[str, LinearMask]

    @property
    def nbytes(self) -> int:
        """Bytes of the masks."""
        return sum(mask.nbytes for mask in self.layers.values())


@dataclass(frozen=True)
class PackedMasks(LayerMasks):
    """Masks at one bit per weight, from which the other forms are made."""

    layers: Mapping[str, ExpandableMask]

    @property
    def bits(self) -> int:
        """Weights that the masks cover."""
        return sum(rows * columns for rows, columns in (mask.shape for mask in self.layers.values()))

    def unpack(self) -> LayerMasks:
        """The same masks as booleans."""
        return LayerMasks("unpacked", {n: BoolMask(mask.expand()) for n, mask in self.layers.items()})

    def fold(self, linears: Mapping[str, nn.Linear]) -> LayerMasks:
        """The masks applied to copies of the weights of `linears`, the layers of the base by name."""
        return LayerMasks(
            "folded", {n: FoldedMask(mask.fold(linears[n].weight)) for n, mask in self.layers.items()}
        )


def pack_masks(
    bits: Mapping[str, PackedArray], layers: Mapping[str, LayerInfo], device: torch.device
) -> PackedMasks:
    """The masks of a bundle, ready for a device.

    Args:
        bits: By layer name, uint8 [rows, ceil(columns / 8)].
        layers: By layer name, its size.
        device: Where the masks are to be used.
    """
    return PackedMasks("packed", {n: ready_mask(one, layers[n].columns, device) for n, one in bits.items()})


def larger_forms(device: torch.device) -> tuple[MaskForm, ...]:
    """Forms beside "packed" that make a task faster on this machine, the smaller first."""
    return () if kernel_runs(device) else ("unpacked", "folded")
