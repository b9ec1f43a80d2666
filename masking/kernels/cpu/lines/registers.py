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
from typing import Any, Literal, TypeAlias

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from masking.kernels.cpu.lines.instructions import LINE, line_under_bits
from masking.kernels.cpu.lines.weights import GROUPS, ROWS
from masking.kernels.cpu.llvm import at, counted_loop, plus
from masking.kernels.cpu.processor import TILES, features

NarrowPrecision: TypeAlias = Literal["bf16", "int8"]

MOST_TOKENS = 2 * ROWS
"""Most tokens of a tile."""
PANEL_STRIPS = 4
"""Strips of a panel."""
COMPILED = {name for name, (feature, _) in TILES.items() if feature in features()}
"""Precisions whose instructions can be compiled here."""
_REGISTER = ROWS * LINE  # bytes
_CONFIGURATION = 64  # bytes
_FIRST_INPUT, _FIRST_LINE = 4, 6  # numbers of registers; sums are 0 to 3
_I8, _I64, _VOID = ir.IntType(8), ir.IntType(64), ir.VoidType()


def _constant(number: int) -> Any:
    return ir.Constant(_I64, number)


class _Registers:
    """Emitter of single instructions."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def _run(self, name: str, *operands: Any) -> None:
        """Call an intrinsic; an int is the number of a register."""
        values = [ir.Constant(_I8, one) if isinstance(one, int) else one for one in operands]
        signature = ir.FunctionType(_VOID, [one.type for one in values])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.x86.{name}")
        self.builder.call(function, values)

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


@dataclass(frozen=True)
class _Pass:
    """Emitter of one pass over all columns: a tile's tokens times some strips of its panel.

    Attributes:
        builder: At the end of an open block.
        precision: Of the weights.
        masked: Whether they are under a mask.
        halves: 2 for more than 16 tokens, else 1.
        strips: Strips of the panel; at most four halves times strips.
        panel: Strips of the whole panel.
        ring: Address of the ring.
        arguments: Those of `register_tile` but for the first.
    """

    builder: ir.IRBuilder
    precision: NarrowPrecision
    masked: bool
    halves: int
    strips: Sequence[int]
    panel: int
    ring: Any
    arguments: Sequence[Any]

    def emit(self) -> None:
        """Emit it; leave the builder at its end."""
        builder, groups = self.builder, self.arguments[6]
        steps, rest = builder.udiv(groups, _constant(ROWS)), builder.urem(groups, _constant(ROWS))
        self._clear()
        with builder.if_then(builder.icmp_signed("!=", rest, _constant(0)), likely=False):
            self._rest(steps, rest)
        with builder.if_then(builder.icmp_signed("!=", steps, _constant(0)), likely=True):
            self._whole_steps(steps)
        registers = _Registers(builder)
        self._each_sum(registers.store)

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
        builder, registers = self.builder, _Registers(self.builder)
        tokens = self.arguments[0]
        registers.configure(_configuration(builder, tokens, rest))
        self._clear()
        if self.masked:

            def turn(line: Any, _: list[Any]) -> list[Any]:
                for place in range(len(self.strips)):
                    self._copy(steps, _constant(0), place, line)
                return []

            counted_loop(builder, rest, [], turn)
        self._step(steps, _constant(0), [])
        self._each_sum(registers.store)
        registers.configure(_configuration(builder, tokens, _constant(ROWS)))
        self._each_sum(registers.load)

    def _clear(self) -> None:
        for half in range(self.halves):
            for place in range(len(self.strips)):
                _Registers(self.builder).clear(2 * half + place)

    def _each_sum(self, move: Callable[[int, Any, Any], None]) -> None:
        builder, spacing = self.builder, LINE * self.panel
        for half in range(self.halves):
            for place, strip in enumerate(self.strips):
                address = plus(builder, self.arguments[7], ROWS * spacing * half + LINE * strip)
                move(2 * half + place, address, _constant(spacing))

    def _ringed(self, half: Any, place: int) -> Any:
        """Emit the address in the ring of the lines of a step; `half` is the step's number modulo 2."""
        builder = self.builder
        moved = builder.mul(half, _constant(_REGISTER * len(self.strips)))
        return plus(builder, builder.add(self.ring, moved), _REGISTER * place)

    def _copies(self, step: Any, half: Any) -> list[Callable[[], None]]:
        """List what emits the copying of each line of a step to the ring; nothing without a mask."""
        if not self.masked:
            return []
        places = product(range(len(self.strips)), map(_constant, range(ROWS)))
        return [partial(self._copy, step, half, place, line) for place, line in places]

    def _copy(self, step: Any, half: Any, place: int, line: Any) -> None:
        builder = self.builder
        _, lines, words, word_stride, _, _, groups, _ = self.arguments
        strip, word_bytes = _constant(self.strips[place]), ROWS * GROUPS[self.precision] // 8
        number = builder.add(builder.mul(step, _constant(ROWS)), line)
        from_line = builder.add(builder.mul(groups, strip), number)
        line_at = builder.add(lines, builder.mul(from_line, _constant(LINE)))
        word_at = builder.add(
            builder.add(words, builder.mul(word_stride, strip)), builder.mul(number, _constant(word_bytes))
        )
        kept = line_under_bits(builder, self.precision, line_at, word_at)
        target = builder.add(self._ringed(half, place), builder.mul(line, _constant(LINE)))
        builder.store(kept, at(builder, target, kept.type), align=LINE)

    def _step(self, step: Any, half: Any, copies: Sequence[Callable[[], None]]) -> None:
        """Multiply a step's lines, and emit some of the copies after each product but the last."""
        builder, registers, todo = self.builder, _Registers(self.builder), iter(copies)
        _, lines, _, _, inputs, apart, groups, _ = self.arguments
        share = len(copies) // (self.halves * len(self.strips))
        column = builder.mul(step, _constant(LINE))

        def copy() -> None:
            for one in islice(todo, share):
                one()

        for place, strip in enumerate(self.strips):
            number = builder.add(builder.mul(groups, _constant(strip)), builder.mul(step, _constant(ROWS)))
            source = builder.add(lines, builder.mul(number, _constant(LINE)))
            register = _FIRST_LINE + place % 2
            for part in range(self.halves):
                if not place:
                    token = builder.add(inputs, builder.mul(apart, _constant(ROWS * part)))
                    registers.load(_FIRST_INPUT + part, builder.add(token, column), apart)
                if not place and not part:
                    copy()
                if not part:
                    registers.load(
                        register, self._ringed(half, place) if self.masked else source, _constant(LINE)
                    )
                registers.multiply(self.precision, 2 * part + place, _FIRST_INPUT + part, register)
                copy()


def register_tile(precision: NarrowPrecision) -> Callable[..., None]:
    """Make a numba intrinsic that multiplies up to 32 tokens with a panel of four strips, or of one.

    Its arguments are the first nine of `instructions.tile`; in 8 bits it leaves the sums of the integers
    alone, int32. `inputs` need not be aligned, nor columns be a multiple of a step. This thread's registers
    are configured for so many tokens, and are so after.
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
    ) -> Any:
        signature = types.void(*[types.int64] * 9)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[Any]) -> Any:
            space = cgutils.alloca_once(builder, ir.ArrayType(_I8, 2 * PANEL_STRIPS * _REGISTER))
            space.align = LINE
            strips, *arguments = values
            tokens, words = arguments[0], arguments[2]
            case = _constant(0)
            for asked in (
                builder.icmp_signed(">", tokens, _constant(ROWS)),
                builder.icmp_signed("==", strips, _constant(1)),
                builder.icmp_signed("!=", words, _constant(0)),
            ):
                case = builder.add(builder.mul(case, _constant(2)), builder.zext(asked, _I64))
            end = builder.append_basic_block("tile_done")
            switch = builder.switch(case, end)
            for number in range(8):
                block = builder.append_basic_block(f"tile_{number}")
                switch.add_case(_constant(number), block)
                builder.position_at_end(block)
                halves, panel, masked = 1 + number // 4, 1 if number & 2 else PANEL_STRIPS, bool(number & 1)
                size, ring = min(panel, 4 // halves), builder.ptrtoint(space, _I64)
                for first in range(0, panel, size):
                    chosen = range(first, first + size)
                    _Pass(builder, precision, masked, halves, chosen, panel, ring, arguments).emit()
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
