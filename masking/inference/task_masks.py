"""Task masks: the masks of one task's layers, in the layout that the kernel of their device reads.

They take one bit per weight. How a layer is computed with them is decided by `masking.kernels`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from mask_store import LayerInfo
from mask_store.format.bits import PackedArray
from masking.kernels import Kernels, LinearMask, ready_mask


@dataclass(frozen=True)
class TaskMasks:
    """The masks of a task's layers; immutable.

    Attributes:
        layers: By layer name; what is not named is not masked.
    """

    layers: Mapping[str, LinearMask]

    @classmethod
    def of(
        cls,
        bits: Mapping[str, PackedArray],
        layers: Mapping[str, LayerInfo],
        device: torch.device,
        kernels: Kernels = "auto",
    ) -> Self:
        """Bring the masks of a bundle to a device.

        Args:
            bits: By layer name, uint8 [rows, ceil(columns / 8)].
            layers: By layer name, its size.
            device: Where the masks are to be used.
            kernels: With "off" they are computed without a kernel.
        """
        return cls({n: ready_mask(packed, layers[n].columns, device, kernels) for n, packed in bits.items()})

    @property
    def nbytes(self) -> int:
        """Bytes of the masks."""
        return sum(mask.nbytes for mask in self.layers.values())
