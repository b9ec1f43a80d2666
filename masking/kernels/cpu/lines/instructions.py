"""LLVM code generation: the inner loop of a masked product of float32, bfloat16 or 8-bit integers.

A register tile holds the sums of a few tokens times a few strips of 16 output rows. One step reads a line of
64 bytes for each strip: `group` adjacent columns of its 16 rows, 1 in float32, 2 in bfloat16 and 4 in 8 bits.
What the task's bits drop is zeroed WHILE the line is loaded, or in float32 while products are added, and one
instruction multiplies it with the same columns of a token and adds the groups' products to 16 sums. Tokens
are read where they lie, so nothing is packed. Where many tiles have the same task, `mask_lines` does the
masking once for all of them, into lines that stay in the cache.

Nothing here checks an address: callers do.
"""

from collections.abc import Callable
from typing import Any, Literal

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from masking.kernels.cpu.lines.weights import GROUPS, ROWS
from masking.kernels.cpu.llvm import at, counted_loop, emit_prefetch, plus
from masking.kernels.cpu.processor import LinePrecision, is_wide, lacks

LINE = 64
"""Bytes of a line: one vector register, or two of AVX2."""
WIDE = is_wide()
"""Whether vector registers hold a line, and masks have registers of their own."""
ROUNDS = not lacks("bf16")
"""Whether one instruction rounds float32 to bfloat16."""
_F32, _I16, _I32, _I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def line_under_bits(builder: ir.IRBuilder, precision: LinePrecision, line: Any, word: Any) -> Any:
    """Emit the load of a line of bfloat16 or 8 bits at an address, zero where the bit of its word is."""
    bits = 32 // GROUPS[precision]
    lanes = 512 // bits
    kind = ir.VectorType(ir.IntType(bits), lanes)
    values = builder.load(at(builder, line, kind), align=LINE)
    word = builder.load(at(builder, word, ir.IntType(lanes)), align=lanes // 8)
    kept = builder.bitcast(word, ir.VectorType(ir.IntType(1), lanes))
    if precision == "int8":  # a load under a mask of bytes takes longer than both of these
        return builder.and_(builder.sext(kept, kind), values)
    return builder.select(kept, values, ir.Constant(kind, [0] * lanes))


def add_products(builder: ir.IRBuilder, precision: LinePrecision, total: Any, values: Any, line: Any) -> Any:
    """Emit the one instruction that adds the products of a line and a token's values to 16 sums."""
    name, operands = {
        "fp32": ("llvm.fma.v16f32", [values, line, total]),
        "bf16": ("llvm.x86.avx512bf16.dpbf16ps.512", [total, values, line]),
        "int8": ("llvm.x86.avx512.vpdpbusd.512", [total, values, line]),
    }[precision]
    signature = ir.FunctionType(total.type, [one.type for one in operands])
    return builder.call(builder.module.declare_intrinsic(name, (), signature), operands)


def _keep_order(builder: ir.IRBuilder) -> None:
    """Emit a place that no access to memory is moved across."""
    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)


class _Tile:
    """Emitter of the code for one size of register tile: `strips` x 16 output rows, `tokens` tokens."""

    def __init__(
        self, builder: ir.IRBuilder, precision: LinePrecision, strips: int, tokens: int, masked: bool
    ) -> None:
        self.builder, self.precision = builder, precision
        self.strips, self.tokens, self.masked = strips, tokens, masked
        bits = 32 // GROUPS[precision]
        lanes = 512 // bits
        self.word_bytes, self.word = lanes // 8, ir.IntType(lanes)
        self.bits = ir.VectorType(ir.IntType(1), lanes)
        self.line = ir.VectorType(ir.IntType(bits), lanes)
        floats, integers = ir.VectorType(_F32, ROWS), ir.VectorType(_I32, ROWS)
        self.sums, self.operand = {
            "fp32": (floats, floats),
            "bf16": (floats, ir.VectorType(_BFloat(), lanes)),
            "int8": (integers, integers),
        }[precision]
        self.zero = ir.Constant(self.sums, [ir.Constant(self.sums.element, 0)] * ROWS)

    def emit(self, arguments: list[Any]) -> None:
        """Emit the whole tile; leave the builder at the end of what was emitted."""
        builder = self.builder
        lines, words, word_stride, inputs, input_stride, groups, sums_at, ahead, apart = arguments[:9]
        strips = self._places(lines, builder.mul(groups, ir.Constant(_I64, LINE)), self.strips)
        bits = self._places(words, word_stride, self.strips)
        tokens = self._places(inputs, input_stride, self.tokens)

        def turn(group: Any, sums: list[Any]) -> list[Any]:
            masked = [
                (builder.bitcast(self.line_of(group, line, word), self.operand), self._kept(group, word))
                for line, word in zip(strips, bits, strict=True)
            ]
            added, before = [], iter(sums)
            for token in tokens:
                values = self._broadcast(self._load(token, group, 4, _I32))
                added += [self._add(next(before), values, line, kept) for line, kept in masked]
            if not WIDE:
                emit_prefetch(builder, builder.add(ahead, builder.mul(group, apart)))
                _keep_order(builder)  # else LLVM unrolls the loop, and finds too few registers for it
            return added

        added = counted_loop(builder, groups, [self.zero] * (self.strips * self.tokens), turn)
        if self.sums.element == _I32:
            added = self._scaled(added, *arguments[9:])
        kind = ir.VectorType(_F32, ROWS)
        for index, one in enumerate(added):
            builder.store(one, at(builder, plus(builder, sums_at, LINE * index), kind), align=LINE)

    def _scaled(self, sums: list[Any], row_sums: Any, row_scales: Any, scales: Any, zeros: Any) -> list[Any]:
        """Turn sums of integers into float32: row scale * token scale * (sum - zero * row sum)."""
        builder, floats = self.builder, ir.VectorType(_F32, ROWS)

        def load(address: Any, index: int, kind: ir.Type, size: int) -> Any:
            return builder.load(at(builder, plus(builder, address, size * index), kind), align=4)

        rows = [
            (load(row_sums, strip, self.sums, LINE), load(row_scales, strip, floats, LINE))
            for strip in range(self.strips)
        ]
        scaled = []
        for token in range(self.tokens):
            zero = self._spread(load(zeros, token, _I32, 4), _I32)
            scale = self._spread(load(scales, token, _F32, 4), _F32)
            for strip, (row_sum, row_scale) in enumerate(rows):
                of_zero = builder.mul(zero, row_sum)
                counted = builder.sub(sums[token * self.strips + strip], of_zero)
                factor = builder.fmul(scale, row_scale)
                scaled.append(builder.fmul(builder.sitofp(counted, floats), factor))
        return scaled

    def _places(self, first: Any, stride: Any, count: int) -> list[Any]:
        builder = self.builder
        return [builder.add(first, builder.mul(stride, ir.Constant(_I64, one))) for one in range(count)]

    def _load(self, place: Any, index: Any, size: int, kind: ir.Type) -> Any:
        builder = self.builder
        address = builder.add(place, builder.mul(index, ir.Constant(_I64, size)))
        return builder.load(at(builder, address, kind), align=size)

    def line_of(self, group: Any, line: Any, word: Any) -> Any:
        """Load a line of weights, zero where their bit is; in fp32 as it is, see `_add`."""
        builder = self.builder
        line_at = builder.add(line, builder.mul(group, ir.Constant(_I64, LINE)))
        if not self.masked or (self.precision == "fp32" and WIDE):
            return builder.load(at(builder, line_at, self.line), align=LINE)
        word_at = builder.add(word, builder.mul(group, ir.Constant(_I64, self.word_bytes)))
        return line_under_bits(builder, self.precision, line_at, word_at)

    def _load_bits(self, group: Any, word: Any) -> Any:
        return self.builder.bitcast(self._load(word, group, self.word_bytes, self.word), self.bits)

    def _kept(self, group: Any, word: Any) -> Any:
        """Load the bits of a line where the products are masked, not the line; else None."""
        return self._load_bits(group, word) if self.masked and self.precision == "fp32" and WIDE else None

    def _add(self, total: Any, values: Any, line: Any, kept: Any) -> Any:
        """Add the products of a line and a token, in fp32 only where bits are set, at no cost."""
        builder = self.builder
        added = add_products(builder, self.precision, total, values, line)
        return added if kept is None else builder.select(kept, added, total)

    def _broadcast(self, value: Any) -> Any:
        return self.builder.bitcast(self._spread(value, _I32), self.operand)

    def _spread(self, value: Any, kind: ir.Type) -> Any:
        undefined = ir.Constant(ir.VectorType(kind, ROWS), ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_I32, 0))
        places = ir.Constant(ir.VectorType(_I32, ROWS), [0] * ROWS)
        return self.builder.shuffle_vector(first, undefined, places)


def tile(precision: LinePrecision, panel_strips: int, most_tokens: int) -> Callable[..., None]:
    """Make a numba intrinsic that multiplies a few tokens with a few strips of weights.

    The intrinsic's arguments are int64 (addresses and strides in bytes):
    (strips, tokens, lines, words, word_stride, inputs, input_stride, groups, sums, ahead, apart, row_sums,
    row_scales, scales, zeros).
    `strips` is `panel_strips` or 1, `tokens` 1 to `most_tokens`; `lines` of 64 bytes [strips, groups],
    aligned, each [16 rows, columns of a group]; `words` [strips, groups] with one bit for each weight of a
    line, in its order, or 0 to multiply the lines as they are; `inputs` [tokens, columns]; `sums` float32
    [tokens, strips * 16], aligned, all written. There is at least one group. With AVX2, `ahead` is the
    address of what will be read later: with each group the cache is asked for it `apart` bytes further on.

    The last four are read in 8 bits only, where weights are signed and inputs are not. Token t stands for
    scales[t] * (q - zeros[t]), row r for row_scales[r] * w, so that a sum is
    scales[t] * row_scales[r] * (sum(q w) - zeros[t] * row_sums[r]): `row_sums` int32 and `row_scales` float32
    [strips * 16], `scales` float32 and `zeros` int32 [tokens].
    """
    shapes = [(strips, masked) for strips in (panel_strips, 1) for masked in (False, True)]

    @intrinsic
    def multiply(  # noqa: PLR0913, PLR0917 (one machine register each)
        context: Any,
        strips: Any,
        tokens: Any,
        lines: Any,
        words: Any,
        word_stride: Any,
        inputs: Any,
        input_stride: Any,
        groups: Any,
        sums: Any,
        ahead: Any,
        apart: Any,
        row_sums: Any,
        row_scales: Any,
        scales: Any,
        zeros: Any,
    ) -> Any:
        signature = types.void(*[types.int64] * 15)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
            strips, tokens, *others = values
            one = builder.zext(builder.icmp_signed("==", strips, ir.Constant(_I64, 1)), _I64)
            masked = builder.zext(builder.icmp_signed("!=", others[1], ir.Constant(_I64, 0)), _I64)
            shape = builder.add(builder.mul(one, ir.Constant(_I64, 2)), masked)
            case = builder.add(builder.mul(shape, ir.Constant(_I64, most_tokens + 1)), tokens)
            end = builder.append_basic_block("tile_done")
            switch = builder.switch(case, end)
            for number, size in enumerate(shapes):
                for count in range(1, most_tokens + 1):
                    block = builder.append_basic_block(f"tile_{number}_{count}")
                    switch.add_case(ir.Constant(_I64, number * (most_tokens + 1) + count), block)
                    builder.position_at_end(block)
                    _Tile(builder, precision, size[0], count, size[1]).emit(others)
                    builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return signature, generate

    chosen: Callable[..., None] = multiply
    return chosen


def mask_lines(precision: Literal["bf16", "int8"]) -> Callable[[int, int, int, int], None]:
    """Make a numba intrinsic that writes a strip's lines with zeros where the bits are.

    Its arguments are int64, addresses but for the last: (target, lines, bits, groups). See `tile`;
    `target` is aligned too.
    """

    @intrinsic
    def write(context: Any, target: Any, lines: Any, bits: Any, groups: Any) -> Any:
        signature = types.void(*[types.int64] * 4)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
            target, lines, bits, groups = values
            one = _Tile(builder, precision, 1, 1, masked=True)

            def turn(group: Any, _: list[Any]) -> list[Any]:
                place = builder.add(target, builder.mul(group, ir.Constant(_I64, LINE)))
                builder.store(one.line_of(group, lines, bits), at(builder, place, one.line), align=LINE)
                return []

            counted_loop(builder, groups, [], turn)
            return context.get_dummy_value()

        return signature, generate

    chosen: Callable[[int, int, int, int], None] = write
    return chosen


@intrinsic
def to_bfloat16(context: Any, value: Any) -> Any:
    """Round a float32 to bfloat16, to the nearest and of two to the even one; return its bits as uint16."""
    signature = types.uint16(types.float32)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        if ROUNDS:
            return builder.bitcast(builder.fptrunc(values[0], _BFloat()), _I16)
        bits, sixteen = builder.bitcast(values[0], _I32), ir.Constant(_I32, 16)
        odd = builder.and_(builder.lshr(bits, sixteen), ir.Constant(_I32, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(_I32, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", values[0], values[0])
        kept = builder.select(is_nan, builder.or_(bits, ir.Constant(_I32, 1 << 22)), rounded)
        return builder.trunc(builder.lshr(kept, sixteen), _I16)

    return signature, generate


@intrinsic
def from_bfloat16(context: Any, bits: Any) -> Any:
    """Return the float32 with the value of a bfloat16, whose bits are a uint16."""
    signature = types.float32(types.uint16)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        high = builder.shl(builder.zext(values[0], _I32), ir.Constant(_I32, 16))
        return builder.bitcast(high, _F32)

    return signature, generate
