"""LLVM code generation: two small pieces of machine code that NumPy-like loops can't express.

`multiply_tile` is the inner loop of a masked matrix product. A register tile holds the results of a few
tokens times one panel of output rows. Per column it loads the panel's weights, zeroes those whose bit is 0
WHILE loading them (a mask register where the CPU has them, otherwise broadcast, and, compare), and adds
their product with each token's value. So a mask of any density costs a fraction of the multiplication, no
masked copy of the weight ever exists, and the bits are the only thing read per task.

`transpose_8x8` brings tokens and weights into the order in which that loop reads them.

The code is LLVM vector code without instructions of any one CPU; numba compiles it for the CPU it runs on.
Nothing here checks an address: callers do.
"""

import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

STRIP = 16
"""Output rows whose bits lie together: one uint16 per column."""

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_EIGHT = 8


def at(builder: ir.IRBuilder, address: Any, kind: ir.Type) -> Any:
    """Emit the pointer to a value of a kind at an address."""
    return builder.inttoptr(address, kind.as_pointer())


def plus(builder: ir.IRBuilder, address: Any, offset: int) -> Any:
    """Emit an address some bytes further on."""
    return builder.add(address, ir.Constant(_I64, offset)) if offset else address


def counted_loop(
    builder: ir.IRBuilder,
    count: Any,
    initial: Sequence[Any],
    body: Callable[[Any, list[Any]], Sequence[Any]],
) -> list[Any]:
    """Emit a loop from 0 to an int64, which is at least 1; leave the builder after it.

    Args:
        builder: At the end of an open block.
        count: Number of turns.
        initial: Values that each turn hands on to the next, before the first.
        body: Emits a turn, of its number and what was handed on; returns what it hands on.

    Returns:
        What the last turn hands on.
    """
    before, loop = builder.block, builder.append_basic_block("turn")
    after = builder.append_basic_block("turns_done")
    builder.branch(loop)
    builder.position_at_end(loop)
    start = ir.Constant(_I64, 0)
    number, *carried = (builder.phi(one.type) for one in (start, *initial))
    handed = list(body(number, carried))
    following = builder.add(number, ir.Constant(_I64, 1))
    for phi, first, new in zip([number, *carried], [start, *initial], [following, *handed], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(new, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return handed


class _Tile:
    """Emitter of the code for one size of register tile: `vectors` x `lanes` output rows, `tokens` tokens."""

    def __init__(self, builder: ir.IRBuilder, lanes: int, vectors: int, tokens: int) -> None:
        self.builder = builder
        self.lanes, self.vectors, self.tokens = lanes, vectors, tokens
        self.vector = ir.VectorType(_F32, lanes)
        self.zero = ir.Constant(self.vector, [0.0] * lanes)

    def emit(self, arguments: list[Any]) -> None:
        """Emit the whole tile; leave the builder at the end of what was emitted."""
        builder = self.builder
        weights, bits, bits_stride, inputs, columns, outputs, outputs_stride, bias = arguments

        def turn(column: Any, sums: list[Any]) -> list[Any]:
            masked = self._masked_weights(column, weights, bits, bits_stride)
            return self._add_products(column, inputs, masked, sums)

        added = counted_loop(builder, columns, [self.zero] * (self.vectors * self.tokens), turn)
        self._store(added, outputs, outputs_stride, bias)

    def _masked_weights(self, column: Any, weights: Any, bits: Any, bits_stride: Any) -> list[Any]:
        """Load the panel's weights of one column, zero where their bit is."""
        builder, lanes = self.builder, self.lanes
        mask_type = ir.VectorType(ir.IntType(1), lanes)
        row = builder.add(weights, builder.mul(column, ir.Constant(_I64, 4 * lanes * self.vectors)))
        word = builder.add(bits, builder.mul(column, ir.Constant(_I64, STRIP // 8)))
        masked = []
        for index in range(self.vectors):
            strip, within = divmod(index * lanes, STRIP)
            place = builder.add(word, builder.mul(bits_stride, ir.Constant(_I64, strip)))
            loaded = builder.load(at(builder, plus(builder, place, within // 8), ir.IntType(lanes)), align=1)
            values = builder.load(at(builder, plus(builder, row, 4 * lanes * index), self.vector), align=4)
            masked.append(builder.select(builder.bitcast(loaded, mask_type), values, self.zero))
        return masked

    def _add_products(self, column: Any, inputs: Any, masked: list[Any], sums: list[Any]) -> list[Any]:
        """Add one column's products to the sums, in the order of `sums`."""
        builder = self.builder
        row = builder.add(inputs, builder.mul(column, ir.Constant(_I64, 4 * self.tokens)))
        added = []
        for token in range(self.tokens):
            value = self._broadcast(builder.load(at(builder, plus(builder, row, 4 * token), _F32), align=4))
            for index, weights in enumerate(masked):
                product = builder.fmul(weights, value, flags=("contract",))
                one = sums[token * self.vectors + index]
                added.append(builder.fadd(one, product, flags=("contract",)))
        return added

    def _broadcast(self, value: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def _store(self, sums: list[Any], outputs: Any, outputs_stride: Any, bias: Any) -> None:
        builder = self.builder
        for index in range(self.vectors):
            offset = 4 * self.lanes * index
            add = builder.load(at(builder, plus(builder, bias, offset), self.vector), align=4)
            for token in range(self.tokens):
                row = builder.add(outputs, builder.mul(outputs_stride, ir.Constant(_I64, token)))
                total = builder.fadd(sums[token * self.vectors + index], add)
                builder.store(total, at(builder, plus(builder, row, offset), self.vector), align=4)


def multiply_tile(lanes: int, vectors: int, most_tokens: int) -> Callable[..., None]:
    """Make a numba intrinsic that multiplies one token tile with one panel of masked weights.

    The intrinsic's arguments are int64 (addresses and strides in bytes):
    (tokens, weights, bits, bits_stride, inputs, columns, outputs, outputs_stride, bias).
    `tokens` is 1 to `most_tokens`; `weights` float32 [columns, lanes * vectors]; `bits` uint16
    [strips, columns] with rows `bits_stride` apart, bit j of a strip's word being its row j; `inputs`
    float32 [columns, tokens]; `outputs` float32, tokens `outputs_stride` apart; `bias` float32
    [lanes * vectors]. `columns` is at least 1.
    """

    @intrinsic
    def multiply(  # noqa: PLR0913, PLR0917 (one machine register each)
        context: Any,
        tokens: Any,
        weights: Any,
        bits: Any,
        bits_stride: Any,
        inputs: Any,
        columns: Any,
        outputs: Any,
        outputs_stride: Any,
        bias: Any,
    ) -> Any:
        signature = types.void(*[types.int64] * 9)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
            end = builder.append_basic_block("tile_done")
            switch = builder.switch(values[0], end)
            for count in range(1, most_tokens + 1):
                block = builder.append_basic_block(f"tokens_{count}")
                switch.add_case(ir.Constant(_I64, count), block)
                builder.position_at_end(block)
                _Tile(builder, lanes, vectors, count).emit(list(values[1:]))
                builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return signature, generate

    chosen: Callable[..., None] = multiply
    return chosen


def _interleave(builder: ir.IRBuilder, rows: list[Any], step: int) -> list[Any]:
    """One of the three stages of an 8 x 8 transposition: swaps blocks of `step` between rows."""
    low, high = [], []
    for lane in range(_EIGHT):
        from_second = bool(lane & step)
        low.append(lane - step + _EIGHT if from_second else lane)
        high.append(lane + _EIGHT if from_second else lane + step)
    shuffles = [ir.Constant(ir.VectorType(_I32, _EIGHT), order) for order in (low, high)]
    result = list(rows)
    for first in (row for row in range(_EIGHT) if not row & step):
        pair = rows[first], rows[first + step]
        result[first] = builder.shuffle_vector(*pair, shuffles[0])
        result[first + step] = builder.shuffle_vector(*pair, shuffles[1])
    return result


@intrinsic
def transpose_8x8(context: Any, source: Any, stride: Any, valid: Any, target: Any, spacing: Any) -> Any:
    """Transpose 8 rows of 8 floats; arguments are int64, addresses and strides in bytes.

    Reads rows 0 to `valid` - 1 at `source` and repeats the last of them; writes columns as 8 runs of
    8 floats, `spacing` bytes apart, in ascending order.
    """
    signature = types.void(*[types.int64] * 5)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        source, stride, valid, target, spacing = values
        vector = ir.VectorType(_F32, _EIGHT)
        last = builder.sub(valid, ir.Constant(_I64, 1))
        rows = []
        for index in range(_EIGHT):
            wanted = ir.Constant(_I64, index)
            row = builder.select(builder.icmp_signed("<", wanted, last), wanted, last)
            place = builder.add(source, builder.mul(row, stride))
            rows.append(builder.load(at(builder, place, vector), align=4))
        for step in (1, 2, 4):
            rows = _interleave(builder, rows, step)
        for index, row in enumerate(rows):
            place = builder.add(target, builder.mul(spacing, ir.Constant(_I64, index)))
            builder.store(row, at(builder, place, vector), align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def fetch_add(context: Any, address: Any, amount: Any) -> Any:
    """Add to the int64 at an address, atomically, and return what it was.

    What a thread wrote before is seen by those that read the new value here.
    """
    signature = types.int64(types.int64, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        return builder.atomic_rmw("add", at(builder, values[0], _I64), values[1], "seq_cst")

    return signature, generate


def emit_prefetch(builder: ir.IRBuilder, address: Any) -> None:
    """Emit what asks for the cache line at an address (int64); one that is none does no harm."""
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), _I32, _I32, _I32])
    function = builder.module.declare_intrinsic("llvm.prefetch.p0", (), kind)
    arguments = [ir.Constant(_I32, value) for value in (0, 2, 1)]  # to read, into the second level, data
    builder.call(function, [at(builder, address, ir.IntType(8)), *arguments])


@intrinsic
def pause(context: Any) -> Any:
    """Let the core's other thread work for a moment, in a loop that waits."""
    signature = types.void()

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        if platform.machine() in {"x86_64", "AMD64"}:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def yield_core(context: Any) -> Any:
    """Let another thread have this core, in a loop that has waited for long."""
    signature = types.void()

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        if os.name == "posix":
            kind = ir.FunctionType(_I32, [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def prefetch(context: Any, address: Any) -> Any:
    """Ask for the cache line at an address (int64); an address that is none does no harm."""
    signature = types.void(types.int64)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        emit_prefetch(builder, values[0])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def copy_float(context: Any, source: Any, target: Any) -> Any:
    """Copy the float32 at one address (int64) to another."""
    signature = types.void(types.int64, types.int64)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        value = builder.load(at(builder, values[0], _F32), align=4)
        builder.store(value, at(builder, values[1], _F32), align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def load_int(context: Any, address: Any) -> Any:
    """Load the int64 at an address."""
    signature = types.int64(types.int64)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
        return builder.load(at(builder, values[0], _I64), align=8)

    return signature, generate


@njit(nogil=True, inline="always")
def field_of(record: int, number: int) -> int:
    """Return an int64 of the record of them at an address, by its number."""
    return load_int(record + 8 * number)
