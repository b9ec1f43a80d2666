"""AMX code generation: the inner loop of a masked product of bfloat16 or 8-bit integers in tile registers.

A tile register holds 16 rows of 64 bytes. A step multiplies 16 tokens, as they lie, with 16 lines of a strip:
32 columns in bfloat16, 64 in 8 bits. Four registers hold sums: those of two halves of 16 tokens times two
strips, or of one half times four. Weights that the task's bits drop are zeroed while their lines are copied
to a small ring, one step ahead of their use: only memory lies between vector and tile registers. The copying
is spread between the products, so that both kinds of work overlap.

Nothing here checks an address: callers do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from typing import Any, Literal, NamedTuple, TypeAlias

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from masking.kernels.cpu.lines.instructions import LINE, line_under_bits
from masking.kernels.cpu.lines.weights import GROUPS, ROWS
from masking.kernels.cpu.llvm import at, counted_loop, emit_prefetch, plus
from masking.kernels.cpu.processor import TILES, features

NarrowPrecision: TypeAlias = Literal["bf16", "int8"]

MOST_TOKENS = 2 * ROWS
"""Most tokens of a tile."""
COMPILED = {name for name, (feature, _) in TILES.items() if feature in features()}
"""Precisions whose instructions can be compiled here."""
_REGISTER = ROWS * LINE  # bytes
_CONFIGURATION = 64  # bytes
_FIRST_INPUT, _FIRST_LINE = 4, 6  # numbers of registers; sums are 0 to 3
_RING_STRIPS = 4
_I8, _I64, _VOID = ir.IntType(8), ir.IntType(64), ir.VoidType()


def _constant(number: int) -> Any:
    return ir.Constant(_I64, number)


def emit_instruction(builder: ir.IRBuilder, name: str, operands: Sequence[Any]) -> None:
    """Emit an instruction of AMX.

    Args:
        builder: Where to.
        name: LLVM's, without ``llvm.x86.``.
        operands: The number of a register is an int8.
    """
    signature = ir.FunctionType(_VOID, [one.type for one in operands])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.x86.{name}")
    builder.call(function, operands)


class _Registers:
    """Emitter of single instructions."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def _run(self, name: str, *operands: Any) -> None:
        """Emit an instruction; an int is the number of a register."""
        values = [ir.Constant(_I8, one) if isinstance(one, int) else one for one in operands]
        emit_instruction(self.builder, name, values)

    def configure(self, address: Any) -> None:
        self._run("ldtilecfg", at(self.builder, address, _I8))

    def save(self, address: Any) -> None:
        self._run("sttilecfg", at(self.builder, address, _I8))

    def clear(self, register: int) -> None:
        self._run("tilezero", register)

    def load(self, register: int, address: Any, stride: Any) -> None:
        self._run("tileloadd64", register, at(self.builder, address, _I8), stride)

    def store(self, register: int, address: Any, stride: Any) -> None:
        self._run("tilestored64", register, at(self.builder, address, _I8), stride)

    def multiply(self, precision: NarrowPrecision, sums: int, inputs: int, lines: int) -> None:
        self._run("tdpbf16ps" if precision == "bf16" else "tdpbusd", sums, inputs, lines)


def _shapes(tokens: int, groups: int) -> bytes:
    """Return what configures the registers for so many tokens, and groups of columns in a step.

    The palette, and the bytes of a row and the rows of each register.
    """
    first, second = min(tokens, ROWS), max(tokens - ROWS, 0)
    sums = [(first, LINE)] * 2 + [(second or first, LINE)] * 2
    inputs = [(first, 4 * groups), (second or first, 4 * groups)]
    shapes = [*sums, *inputs, *[(groups, LINE)] * 2]
    widths = b"".join(width.to_bytes(2, "little") for _, width in shapes)
    rows = bytes(count for count, _ in shapes)
    return bytes([1]) + bytes(15) + widths.ljust(32, b"\0") + rows.ljust(16, b"\0")


def _configuration(builder: ir.IRBuilder, tokens: Any, groups: Any) -> Any:
    """Emit the address of `_shapes` for so many tokens and groups."""
    table = b"".join(_shapes(one, size + 1) for one in range(MOST_TOKENS + 1) for size in range(ROWS))
    constant = cgutils.global_constant(builder, "shapes", cgutils.make_bytearray(table))
    constant.align = _CONFIGURATION
    number = builder.add(builder.mul(tokens, _constant(ROWS)), builder.sub(groups, _constant(1)))
    return builder.add(builder.ptrtoint(constant, _I64), builder.mul(number, _constant(_CONFIGURATION)))


class _Arguments(NamedTuple):
    """Those of `register_tile`, each an int64."""

    strips: Any
    tokens: Any
    lines: Any
    words: Any
    word_stride: Any
    inputs: Any
    input_stride: Any
    groups: Any
    sums: Any
    sums_stride: Any
    following: Any


@dataclass(frozen=True)
class _Pass:
    """Emitter of one pass over all columns: a tile's tokens times its next strips.

    Attributes:
        builder: At the end of an open block.
        precision: Of the weights.
        masked: Whether they are under a mask.
        halves: 2 for more than 16 tokens, else 1.
        strips: Strips; at most four halves times strips.
        ring: Address of the ring.
        arguments: From the first of these strips on.
    """

    builder: ir.IRBuilder
    precision: NarrowPrecision
    masked: bool
    halves: int
    strips: int
    ring: Any
    arguments: _Arguments

    def emit(self) -> None:
        """Emit it; leave the builder at its end."""
        builder, groups = self.builder, self.arguments.groups
        steps, rest = builder.udiv(groups, _constant(ROWS)), builder.urem(groups, _constant(ROWS))
        self._clear()
        with builder.if_then(builder.icmp_signed("!=", rest, _constant(0)), likely=False):
            self._rest(steps, rest)
        with builder.if_then(builder.icmp_signed("!=", steps, _constant(0)), likely=True):
            self._whole_steps(steps)
        self._each_sum(_Registers(builder).store)

    def _whole_steps(self, steps: Any) -> None:
        builder, last = self.builder, self.builder.sub(steps, _constant(1))
        for copy in self._copies(_constant(0), _constant(0)):
            copy()

        def turn(step: Any, _: list[Any]) -> list[Any]:
            more = builder.icmp_signed("<", step, last)
            following = builder.select(more, builder.add(step, _constant(1)), last)
            half = builder.and_(step, _constant(1))
            self._step(step, half, self._copies(following, builder.xor(half, _constant(1))))
            return []

        counted_loop(builder, steps, [], turn)

    def _rest(self, steps: Any, rest: Any) -> None:
        """Add what is left after whole steps; sums wait in memory, since configuring clears registers."""
        builder, registers, tokens = self.builder, _Registers(self.builder), self.arguments.tokens
        registers.configure(_configuration(builder, tokens, rest))
        self._clear()
        if self.masked:

            def turn(line: Any, _: list[Any]) -> list[Any]:
                for strip in range(self.strips):
                    self._copy(steps, _constant(0), strip, line)
                return []

            counted_loop(builder, rest, [], turn)
        self._step(steps, _constant(0), [])
        self._each_sum(registers.store)
        registers.configure(_configuration(builder, tokens, _constant(ROWS)))
        self._each_sum(registers.load)

    def _clear(self) -> None:
        for half, strip in product(range(self.halves), range(self.strips)):
            _Registers(self.builder).clear(2 * half + strip)

    def _each_sum(self, move: Callable[[int, Any, Any], None]) -> None:
        builder, stride = self.builder, self.arguments.sums_stride
        for half, strip in product(range(self.halves), range(self.strips)):
            first = builder.add(self.arguments.sums, builder.mul(stride, _constant(ROWS * half)))
            move(2 * half + strip, plus(builder, first, LINE * strip), stride)

    def _ringed(self, half: Any, strip: int) -> Any:
        """Emit the address in the ring of the lines of a step; `half` is the step's number modulo 2."""
        builder = self.builder
        moved = builder.mul(half, _constant(_REGISTER * self.strips))
        return plus(builder, builder.add(self.ring, moved), _REGISTER * strip)

    def _line(self, step: Any, strip: int, line: Any) -> Any:
        """Emit the number of a line of a step, from the first on."""
        builder = self.builder
        in_strip = builder.add(builder.mul(step, _constant(ROWS)), line)
        return builder.add(builder.mul(self.arguments.groups, _constant(strip)), in_strip)

    def _copies(self, step: Any, half: Any) -> list[Callable[[], None]]:
        """List what emits the copying of each line of a step to the ring; nothing without a mask."""
        if not self.masked:
            return []
        places = product(range(self.strips), map(_constant, range(ROWS)))
        return [partial(self._copy, step, half, strip, line) for strip, line in places]

    def _copy(self, step: Any, half: Any, strip: int, line: Any) -> None:
        builder, arguments = self.builder, self.arguments
        word_bytes = _constant(ROWS * GROUPS[self.precision] // 8)
        words = builder.add(arguments.words, builder.mul(arguments.word_stride, _constant(strip)))
        in_strip = builder.add(builder.mul(step, _constant(ROWS)), line)
        word_at = builder.add(words, builder.mul(in_strip, word_bytes))
        moved = builder.mul(self._line(step, strip, line), _constant(LINE))
        kept = line_under_bits(builder, self.precision, builder.add(arguments.lines, moved), word_at)
        target = builder.add(self._ringed(half, strip), builder.mul(line, _constant(LINE)))
        builder.store(kept, at(builder, target, kept.type), align=LINE)

    def _ask_for_words(self, step: Any) -> None:
        """Ask for the words of the following mask for the same step."""
        builder, arguments = self.builder, self.arguments
        size = ROWS * ROWS * GROUPS[self.precision] // 8
        for strip, line in product(range(self.strips), range(0, size, LINE)):
            moved = builder.add(
                builder.mul(step, _constant(size)), builder.mul(arguments.word_stride, _constant(strip))
            )
            emit_prefetch(builder, plus(builder, builder.add(arguments.following, moved), line))

    def _step(self, step: Any, half: Any, copies: Sequence[Callable[[], None]]) -> None:
        """Multiply a step's lines, and emit the copies, a share of them after each product but the last."""
        builder, registers, todo = self.builder, _Registers(self.builder), iter(copies)
        share, stride = len(copies) // (self.halves * self.strips), self.arguments.input_stride
        column = builder.mul(step, _constant(LINE))

        def copy() -> None:
            for one in islice(todo, share):
                one()

        def load_inputs(part: int) -> None:
            token = builder.add(self.arguments.inputs, builder.mul(stride, _constant(ROWS * part)))
            registers.load(_FIRST_INPUT + part, builder.add(token, column), stride)

        def load_lines(strip: int) -> None:
            moved = builder.mul(self._line(step, strip, _constant(0)), _constant(LINE))
            plain = builder.add(self.arguments.lines, moved)
            source = self._ringed(half, strip) if self.masked else plain
            registers.load(_FIRST_LINE + strip % 2, source, _constant(LINE))

        if copies:
            self._ask_for_words(step)
        for strip, part in product(range(self.strips), range(self.halves)):
            if strip == 0:
                load_inputs(part)
            if strip == part == 0:
                copy()
            if part == 0:
                load_lines(strip)
            sums = 2 * part + strip
            registers.multiply(self.precision, sums, _FIRST_INPUT + part, _FIRST_LINE + strip % 2)
            copy()


def _passes(
    builder: ir.IRBuilder,
    precision: NarrowPrecision,
    masked: bool,
    halves: int,
    ring: Any,
    arguments: _Arguments,
) -> None:
    """Emit passes of as many strips as there are registers for, then of single strips."""
    most = _constant(4 // halves)
    wide, single = builder.udiv(arguments.strips, most), builder.urem(arguments.strips, most)
    apart = builder.mul(arguments.groups, _constant(LINE))

    def passes(strips: int, first: Any, count: Any) -> None:
        def turn(number: Any, _: list[Any]) -> list[Any]:
            strip = builder.add(first, builder.mul(number, _constant(strips)))
            moved = arguments._replace(
                lines=builder.add(arguments.lines, builder.mul(apart, strip)),
                words=builder.add(arguments.words, builder.mul(arguments.word_stride, strip)),
                sums=builder.add(arguments.sums, builder.mul(strip, _constant(LINE))),
                following=builder.add(arguments.following, builder.mul(arguments.word_stride, strip)),
            )
            _Pass(builder, precision, masked, halves, strips, ring, moved).emit()
            return []

        with builder.if_then(builder.icmp_signed("!=", count, _constant(0)), likely=True):
            counted_loop(builder, count, [], turn)

    passes(4 // halves, _constant(0), wide)
    passes(1, builder.mul(wide, most), single)


def register_tile(precision: NarrowPrecision) -> Callable[..., None]:
    """Make a numba intrinsic that multiplies up to 32 tokens with any number of strips.

    Its arguments are the first nine of `instructions.tile`, the bytes from one token's sums to the next
    one's, and the words of the mask after this one, which are asked for while this one is used, so that they
    are there in time. In 8 bits it leaves the sums of the integers alone, int32. Inputs need not be aligned,
    nor columns be a multiple of a step. This thread's registers are configured for so many tokens, and are so
    after.
    """

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
        sums_stride: Any,
        following: Any,
    ) -> Any:
        signature = types.void(*[types.int64] * 11)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
            space = cgutils.alloca_once(builder, ir.ArrayType(_I8, _RING_STRIPS * 2 * _REGISTER))
            space.align = LINE
            ring, arguments = builder.ptrtoint(space, _I64), _Arguments(*values)
            two = builder.icmp_signed(">", arguments.tokens, _constant(ROWS))
            masked = builder.icmp_signed("!=", arguments.words, _constant(0))
            case = builder.add(builder.mul(builder.zext(two, _I64), _constant(2)), builder.zext(masked, _I64))
            end = builder.append_basic_block("tile_done")
            switch = builder.switch(case, end)
            for number in range(4):
                block = builder.append_basic_block(f"tile_{number}")
                switch.add_case(_constant(number), block)
                builder.position_at_end(block)
                _passes(builder, precision, bool(number % 2), 1 + number // 2, ring, arguments)
                builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return signature, generate

    chosen: Callable[..., None] = multiply
    return chosen


def _of_address(emit: Callable[[ir.IRBuilder, Any], None]) -> Callable[[int], None]:
    """Make a numba intrinsic of one int64; it does nothing where no instruction can be compiled."""

    @intrinsic
    def run(context: Any, value: Any) -> Any:
        signature = types.void(types.int64)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
            if COMPILED:
                emit(builder, values[0])
            return context.get_dummy_value()

        return signature, generate

    chosen: Callable[[int], None] = run
    return chosen


configure = _of_address(
    lambda builder, tokens: _Registers(builder).configure(_configuration(builder, tokens, _constant(ROWS)))
)
"""Configure this thread's tile registers for tiles of so many tokens, 1 to `MOST_TOKENS`."""
save = _of_address(lambda builder, address: _Registers(builder).save(address))
"""Write how this thread's tile registers are configured to 64 bytes at an address."""
restore = _of_address(lambda builder, address: _Registers(builder).configure(address))
"""Configure this thread's tile registers as `save` found them; what they held is lost."""
