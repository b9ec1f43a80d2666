"""Line weights and masks: a layer in float32, bfloat16 or 8 bits, and a task's bits, in the kernel's order.

A strip is 16 output rows, a group as many adjacent columns as fill 64 bytes with those rows: 1 in float32, 2
in bfloat16, 4 in 8 bits. A line is a group of a strip, row by row; a word has one bit for each weight of a
line. It is also the order of a tile of AMX's second operand.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from masking.kernels.cpu.processor import LinePrecision

ROWS = 16
GROUPS: dict[LinePrecision, int] = {"fp32": 1, "bf16": 2, "int8": 4}
WORDS: dict[LinePrecision, type[np.unsignedinteger[Any]]] = {
    "fp32": np.uint16,
    "bf16": np.uint32,
    "int8": np.uint64,
}
_LARGEST = 127


class MaskPlace(NamedTuple):
    """Where the kernel finds a mask; valid while its arrays live.

    Attributes:
        address: Of the first strip's words; 0 for the weight as it is.
        stride: Bytes from strip to strip.
        row_sums: Address of the rows' sums; 0 in bfloat16.
    """

    address: int
    stride: int
    row_sums: int


class LineForm(NamedTuple):
    """What a weight and its masks have in common."""

    precision: LinePrecision
    rows: int
    columns: int


@dataclass(frozen=True)
class LineMask:
    """A mask as the line kernel reads it.

    Attributes:
        words: uint16 (float32), uint32 (bfloat16) or uint64 (8 bits) [ceil(rows / 16), groups].
        rows: Rows of the mask.
        row_sums: int32 [strips * 16], 8 bits only: the sum of each row's weights that the mask keeps.
        place: Where the kernel finds them.
        form: Precision, rows and columns of the weights that it masks.
    """

    words: NDArray[np.unsignedinteger[Any]]
    rows: int
    row_sums: NDArray[np.int32] | None = None
    place: MaskPlace = field(init=False, repr=False, compare=False)
    form: LineForm = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Keep what each call asks for."""
        strips, groups = self.words.shape
        assert self.words.flags.c_contiguous
        assert strips == -(-self.rows // ROWS)
        sums = 0 if self.row_sums is None else self.row_sums.ctypes.data
        place = MaskPlace(self.words.ctypes.data, self.words.itemsize * groups, sums)
        object.__setattr__(self, "place", place)
        precision = next(name for name, kind in WORDS.items() if self.words.dtype == kind)
        object.__setattr__(self, "form", LineForm(precision, self.rows, groups * self.words.itemsize // 2))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.form.rows, self.form.columns

    @property
    def nbytes(self) -> int:
        """Bytes of the words and of the sums."""
        return self.words.nbytes + (0 if self.row_sums is None else self.row_sums.nbytes)

    def expand(self) -> Tensor:
        """Return the mask, boolean [rows, columns]."""
        strips, groups = self.words.shape
        little = self.words.astype(self.words.dtype.newbyteorder("<"), copy=False).view(np.uint8)
        bits = np.unpackbits(little, axis=1, bitorder="little").reshape(strips, groups, ROWS, -1)
        rows = bits.transpose(0, 2, 1, 3).reshape(strips * ROWS, -1)
        return torch.from_numpy(np.ascontiguousarray(rows[: self.rows])).bool()


@dataclass(frozen=True)
class LineWeight:
    """A linear layer in the kernel's order and precision.

    Attributes:
        precision: "fp32", "bf16" or "int8".
        rows: Output rows.
        columns: Columns, a multiple of the group.
        lines: float32, bfloat16 or int8 [ceil(rows / 16), groups, 16, columns of a group], aligned to 64
            bytes; rows after the last are zeros.
        bias: float32 [rows].
        scales: float32 [strips * 16], 8 bits only: what one step of each row's integers stands for.
        row_sums: int32 [strips * 16], 8 bits only: the sum of each row's integers.
        no_mask: The place for a segment without a mask.
        form: See above.
    """

    precision: LinePrecision
    rows: int
    columns: int
    lines: Tensor
    bias: Tensor
    scales: Tensor | None = None
    row_sums: NDArray[np.int32] | None = None
    no_mask: MaskPlace = field(init=False, repr=False, compare=False)
    form: LineForm = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Keep what each call asks for."""
        sums = 0 if self.row_sums is None else self.row_sums.ctypes.data
        object.__setattr__(self, "no_mask", MaskPlace(0, 0, sums))
        object.__setattr__(self, "form", LineForm(self.precision, self.rows, self.columns))

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, precision: LinePrecision) -> Self:
        """Round a layer to a precision.

        In 8 bits each row has a scale of its own, so that its largest magnitude is 127. The scale is that of
        the row without a mask, for all tasks: dropping weights never makes a row's largest larger.

        Args:
            weight: float32 [rows, columns]; not kept.
            bias: float32 [rows], or None.
            precision: "fp32", "bf16" or "int8".

        Raises:
            ValueError: The columns are no multiple of the group.
        """
        rows, columns = weight.shape
        if columns % GROUPS[precision]:
            raise ValueError(
                f"{columns} columns are no multiple of {GROUPS[precision]}, as {precision} needs them"
            )
        added = torch.zeros(rows) if bias is None else bias.detach().float().contiguous().clone()
        if precision != "int8":
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            lines = _in_lines(weight.detach().to(dtype), GROUPS[precision])
            return cls(precision, rows, columns, lines, added)
        scales = weight.detach().abs().amax(1).float() / _LARGEST
        steps = torch.where(scales > 0, scales, 1.0)
        levels = (weight.detach() / steps[:, None]).round().clamp(-_LARGEST, _LARGEST).to(torch.int8)
        beyond = 0, -rows % ROWS
        sums = F.pad(levels.sum(1, dtype=torch.int32), beyond).numpy()
        return cls(precision, rows, columns, _in_lines(levels, 4), added, F.pad(scales, beyond), sums)

    @property
    def nbytes(self) -> int:
        """Bytes of the layer in this form."""
        sums = 0 if self.row_sums is None else self.row_sums.nbytes
        return (
            self.lines.nbytes + self.bias.nbytes + sums + (0 if self.scales is None else self.scales.nbytes)
        )

    def expand(self) -> Tensor:
        """Return the weight as it is multiplied: float64 [rows, columns]."""
        group = GROUPS[self.precision]
        by_row = self.lines.transpose(1, 2).reshape(-1, self.columns // group * group)[: self.rows].double()
        return by_row if self.scales is None else by_row * self.scales[: self.rows].double()[:, None]


def _in_lines(values: Tensor, group: int) -> Tensor:
    """Bring [rows, columns] into lines [strips, groups, 16, group], filled up with zeros."""
    rows, columns = values.shape
    strips = -(-rows // ROWS)
    whole = values.new_zeros(strips * ROWS, columns)
    whole[:rows] = values
    return whole.view(strips, ROWS, columns // group, group).transpose(1, 2).contiguous()
