"""Mask layouts: how the bits of one layer's mask lie in memory, always one bit per weight.

  BitMask     rows of bits, as a bundle holds them
  StripMask   16 rows to a word: what the CPU's kernel reads
  WordMask    32 columns to a word, on a device: what the Triton kernel reads

All are immutable and hold the same, so a server needs only one of them. How a layer is computed with them is
decided in `masking.kernels.linear`.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mask_store.format.bits import unpack_bits
from mask_store.format.rice import decode_rice
from mask_store.format.tensors import Decode
from masking.kernels.cpu import launch as native

BITS_PER_STRIP = 16
COLUMNS_PER_WORD = 32
Kernels = Literal["auto", "off"]
"""Use the kernels where there are any, or fold every masked layer."""


class LinearMask(Protocol):
    """The mask of one linear layer, in some layout."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the weight."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""

    def expand(self) -> Tensor:
        """Return the mask, boolean [rows, columns]."""


@dataclass(frozen=True)
class BitMask:
    """A mask as a bundle holds it.

    Attributes:
        packed: uint8 [rows, ceil(columns / 8)], bit j of byte i being column 8i + j.
        columns: Columns of the mask.
    """

    packed: NDArray[np.uint8]
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """See `LinearMask.shape`."""
        return self.packed.shape[0], self.columns

    @property
    def nbytes(self) -> int:
        """See `LinearMask.nbytes`."""
        return self.packed.nbytes

    def expand(self) -> Tensor:
        """See `LinearMask.expand`."""
        return torch.from_numpy(unpack_bits(self.packed, self.columns))


@dataclass(frozen=True)
class StripMask:
    """A mask as the kernel reads it. Needs numba to be made, not to be expanded.

    Attributes:
        strips: uint16 [ceil(rows / 16), columns], bit j of a word being row j of its strip; rows after the
            last have zeros.
        rows: Rows of the mask.
        place: Where the kernel finds the strips.
        shape: See `LinearMask.shape`.
    """

    strips: NDArray[np.uint16]
    rows: int
    place: native.Place = field(init=False, repr=False, compare=False)
    shape: tuple[int, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Keep what each call asks for.

        Raises:
            ValueError: The strips are no contiguous uint16 matrix, or do not fit the number of rows.
        """
        object.__setattr__(self, "place", native.place_of(self.strips))
        object.__setattr__(self, "shape", (self.rows, self.strips.shape[1]))
        if self.strips.shape[0] != -(-self.rows // BITS_PER_STRIP):
            raise ValueError(f"{self.strips.shape[0]} strips do not hold {self.rows} rows")

    @classmethod
    def of(cls, bits: BitMask) -> Self:
        """Make the same mask of bits; takes about 0.1 ms for 768 x 768."""
        return cls(native.strips_of_bits(bits.packed, bits.columns), bits.packed.shape[0])

    @property
    def nbytes(self) -> int:
        """See `LinearMask.nbytes`."""
        return self.strips.nbytes

    def expand(self) -> Tensor:
        """See `LinearMask.expand`."""
        pairs = self.strips.astype("<u2", copy=False).view(np.uint8).reshape(*self.strips.shape, 2)
        bits = np.unpackbits(pairs, axis=2, bitorder="little").view(np.bool_)
        rows = np.ascontiguousarray(bits.transpose(0, 2, 1)).reshape(-1, self.strips.shape[1])
        return torch.from_numpy(rows[: self.rows])


@dataclass(frozen=True)
class WordMask:
    """A mask on a device, as the Triton kernel reads it; without Triton it can still be expanded there.

    Attributes:
        words: int32 [ceil(columns / 32), rows], contiguous; bit j of words[i, n] is column 32 i + j of row n;
            bits after the last column are not looked at.
        columns: Columns of the mask.
        address: Of the words, valid while this lives.
    """

    words: Tensor
    columns: int
    address: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Keep what each call asks for.

        Raises:
            ValueError: The words are no contiguous int32 matrix, or do not fit the number of columns.
        """
        words = self.words
        if words.dtype != torch.int32 or words.ndim != 2 or not words.is_contiguous():  # noqa: PLR2004
            raise ValueError(f"expected contiguous int32 words, found {words.dtype} {tuple(words.shape)}")
        if words.shape[0] != -(-self.columns // COLUMNS_PER_WORD):
            raise ValueError(f"{words.shape[0]} rows of words do not hold {self.columns} columns")
        object.__setattr__(self, "address", words.data_ptr())

    @classmethod
    def of(cls, bits: BitMask, device: torch.device) -> Self:
        """Make the same mask on a device."""
        whole = np.pad(bits.packed, ((0, 0), (0, -bits.packed.shape[1] % 4)))
        words = np.ascontiguousarray(whole.view("<i4").astype(np.int32, copy=False).T)
        return cls(torch.from_numpy(words).to(device), bits.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """See `LinearMask.shape`."""
        return self.words.shape[1], self.columns

    @property
    def nbytes(self) -> int:
        """See `LinearMask.nbytes`."""
        return self.words.nbytes

    def expand(self) -> Tensor:
        """See `LinearMask.expand`."""
        column = torch.arange(COLUMNS_PER_WORD, dtype=torch.int32, device=self.words.device)
        bits = (self.words.T.unsqueeze(2) >> column) & 1
        return bits.bool().flatten(1)[:, : self.columns]


def ready_mask(
    packed: NDArray[np.uint8],
    columns: int,
    device: torch.device | None = None,
    kernels: Kernels = "auto",
) -> BitMask | StripMask | WordMask:
    """Bring a bundle's bits into the layout that is fastest on a device.

    Args:
        packed: uint8 [rows, ceil(columns / 8)]; a `BitMask` keeps it, the others do not.
        columns: Columns of the mask.
        device: Where the layer is computed; None for the CPU.
        kernels: With "off" no kernel is needed to make the mask or to compute with it.

    Returns:
        On the CPU strips where its kernel is used, else the bits as they are; elsewhere words on the device.
    """
    bits = BitMask(packed, columns)
    if device is not None and device.type != "cpu":
        return WordMask.of(bits, device)
    return StripMask.of(bits) if kernels == "auto" and native.available() else bits


def rice_decoder(device: torch.device, kernels: Kernels = "auto") -> Decode:
    """Return the fastest decoder of masks for layers that are computed on a device.

    Args:
        device: Where the layers are computed.
        kernels: With "off" no kernel is needed for it.
    """
    if device.type == "cpu" and kernels == "auto" and native.available():
        return native.decode_rice
    return decode_rice
