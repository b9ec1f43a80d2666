"""Task masks: the masks or signs of one task's layers, in the layout that the kernel of their device reads.

They take one bit per weight. How a layer is computed with them is decided by `masking.kernels`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from mask_store import LayerBits
from mask_store.format.bits import PackedArray
from masking.inference.resident import ResidentWeights
from masking.kernels import LinearMask


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
        layers: Mapping[str, LayerBits],
        weights: ResidentWeights,
        *,
        signs: bool = False,
    ) -> Self:
        """Bring the masks of a bundle into the order that the layers' kernels read.

        Args:
            bits: By layer name, uint8 [rows, ceil(columns / 8)].
            layers: By layer name, its size.
            weights: The layers that they are to be used with.
            signs: Whether the bits are signs; see `masking.inference.signs`.
        """
        ready = weights.ready_signs if signs else weights.ready_mask
        return cls({name: ready(name, packed, layers[name].columns) for name, packed in bits.items()})

    @property
    def nbytes(self) -> int:
        """Bytes of the masks."""
        return sum(mask.nbytes for mask in self.layers.values())
