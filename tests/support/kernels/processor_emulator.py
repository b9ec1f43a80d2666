"""Processor emulator: a pytest plugin that runs the CPU kernels whose instructions this processor lacks.

    pytest -p tests.support.kernels.processor_emulator tests/masking

Kernels are compiled as for a processor with AVX-512, AVX512-BF16, AVX512-VNNI and AMX. A vector instruction
that this one lacks becomes several of those it has; the compiler itself splits vectors that are too wide. An
AMX instruction becomes a call of a function here, in numpy. So all is tested but the instructions themselves:
slowly, and without a word about speed. Nothing is changed where the processor has them all.
"""

import ctypes
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config
from numpy.typing import NDArray

from masking.kernels.cpu import processor

# Neither the user's own cache nor another process may get these kernels, which call functions of this one.
_CACHE = tempfile.TemporaryDirectory(prefix="emulated-kernels-")
config.CACHE_DIR = _CACHE.name

_HOST = processor.features()
_VECTORS = {"avx512f", "avx512bw"} | {feature for feature, _ in processor.NEEDED.values()}
_TILES = {feature for feature, _ in processor.TILES.values()}
_EMULATED = frozenset(_HOST | _VECTORS | _TILES)
_HAS_TILES = {one: processor.has_tiles(one) for one in processor.TILES}
_LACKING = [one for one in processor.NEEDED if processor.lacks(one)]

processor.features = lambda: _EMULATED  # type: ignore[assignment]
if not all(_HAS_TILES.values()):
    processor._tiles_are_permitted = lambda: True  # type: ignore[assignment]
processor.has_tiles.cache_clear()

from masking.kernels.cpu.lines import instructions, registers  # noqa: E402

_LANES = 16
_INTS, _FLOATS = ir.VectorType(ir.IntType(32), _LANES), ir.VectorType(ir.FloatType(), _LANES)
_REGISTERS, _ROWS, _LINE = 8, 16, 64
_I8, _I64, _POINTER = ctypes.c_uint8, ctypes.c_int64, ctypes.c_void_p


def _all(value: int) -> ir.Constant:
    return ir.Constant(_INTS, [value] * _LANES)


def _add_products(
    builder: ir.IRBuilder, precision: processor.LinePrecision, total: Any, values: Any, line: Any
) -> Any:
    """Emit what VDPBF16PS and VPDPBUSD do, by instructions of float32 and of 32-bit integers."""
    if precision not in _LACKING:
        return _host_add_products(builder, precision, total, values, line)
    left, right = builder.bitcast(values, _INTS), builder.bitcast(line, _INTS)
    if precision == "bf16":
        low = [builder.shl(one, _all(16)) for one in (left, right)]
        high = [builder.and_(one, _all(0xFFFF0000)) for one in (left, right)]
        for factors in (low, high):
            product = builder.fmul(*(builder.bitcast(one, _FLOATS) for one in factors))
            total = builder.fadd(total, product)
        return total
    for place in range(0, 32, 8):
        unsigned = builder.and_(builder.lshr(left, _all(place)), _all(0xFF))
        signed = builder.ashr(builder.shl(right, _all(24 - place)), _all(24))
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


class _TileRegisters:
    """Tile registers of one thread."""

    def __init__(self) -> None:
        self.configuration = bytes(_LINE)
        self.held = np.zeros((_REGISTERS, _ROWS, _LINE), np.uint8)

    def configure(self, configuration: bytes) -> None:
        self.configuration = configuration
        self.held[:] = 0

    def shape(self, register: int) -> tuple[int, int]:
        """Rows, and bytes of a row."""
        assert self.configuration[0] == 1, "tile registers are not configured"
        widths = np.frombuffer(self.configuration, np.uint16, _REGISTERS, offset=16)
        return self.configuration[48 + register], int(widths[register])

    def used(self, register: int) -> NDArray[np.uint8]:
        rows, width = self.shape(register)
        assert 0 < rows <= _ROWS, f"tile register {register} has {rows} rows"
        assert 0 < width <= _LINE, f"tile register {register} has rows of {width} bytes"
        return self.held[register, :rows, :width]


on_configure: list[Callable[[int], None]] = []
"""Called with the address of what tile registers are configured by, before they are."""
_of_thread: dict[int, _TileRegisters] = defaultdict(_TileRegisters)


def _mine() -> _TileRegisters:
    return _of_thread[threading.get_ident()]


def _rows_at(address: int, stride: int, register: int) -> NDArray[np.uint8]:
    """Memory as the rows of a register."""
    rows, width = _mine().shape(register)
    whole = np.ctypeslib.as_array((ctypes.c_uint8 * (stride * (rows - 1) + width)).from_address(address))
    return np.lib.stride_tricks.as_strided(whole, (rows, width), (stride, 1))


def _load(register: int, address: int, stride: int) -> None:
    _mine().used(register)[:] = _rows_at(address, stride, register)


def _store(register: int, address: int, stride: int) -> None:
    _rows_at(address, stride, register)[:] = _mine().used(register)


def _clear(register: int) -> None:
    _mine().used(register)[:] = 0


def _configure(address: int) -> None:
    for look in on_configure:
        look(address)
    _mine().configure(ctypes.string_at(address, _LINE))


def _save(address: int) -> None:
    ctypes.memmove(address, _mine().configuration, _LINE)


def _multiply(
    sums: int, inputs: int, lines: int, types: tuple[type[np.generic], ...], widen: Callable[[Any], Any]
) -> None:
    """Add inputs [M, K] x lines [K, N], whose rows lie in groups of as many columns as 32 bits hold."""
    kind, left, right = types
    registers = _mine()
    total, rows = registers.used(sums).view(kind), registers.used(inputs).view(left)
    columns = registers.used(lines).view(right)
    group = 4 // columns.itemsize
    columns = columns.reshape(len(columns), -1, group).swapaxes(1, 2).reshape(len(columns) * group, -1)
    assert rows.shape[1] == len(columns), "registers don't fit together"
    total += np.einsum("mk,kn->mn", widen(rows), widen(columns))


def _multiply_bf16(sums: int, inputs: int, lines: int) -> None:
    def widen(values: NDArray[np.uint16]) -> NDArray[np.float32]:
        return (values.astype(np.uint32) << 16).view(np.float32)

    _multiply(sums, inputs, lines, (np.float32, np.uint16, np.uint16), widen)


def _multiply_int8(sums: int, inputs: int, lines: int) -> None:
    _multiply(sums, inputs, lines, (np.int32, np.uint8, np.int8), lambda values: values.astype(np.int32))


_INSTRUCTIONS: dict[str, tuple[Callable[..., None], list[Any]]] = {
    "ldtilecfg": (_configure, [_POINTER]),
    "sttilecfg": (_save, [_POINTER]),
    "tilezero": (_clear, [_I8]),
    "tileloadd64": (_load, [_I8, _POINTER, _I64]),
    "tilestored64": (_store, [_I8, _POINTER, _I64]),
    "tdpbf16ps": (_multiply_bf16, [_I8] * 3),
    "tdpbusd": (_multiply_int8, [_I8] * 3),
}
_callable = {name: ctypes.CFUNCTYPE(None, *kinds)(run) for name, (run, kinds) in _INSTRUCTIONS.items()}


def _emit_instruction(builder: ir.IRBuilder, name: str, operands: Sequence[Any]) -> None:
    """Emit a call of the function here that stands for an instruction of AMX."""
    address = ctypes.cast(_callable[name], ctypes.c_void_p).value
    signature = ir.FunctionType(ir.VoidType(), [one.type for one in operands])
    function = builder.inttoptr(ir.Constant(ir.IntType(64), address), signature.as_pointer())
    builder.call(function, operands)


_host_add_products = instructions.add_products
instructions.add_products = _add_products
if "bf16" in _LACKING:
    instructions.ROUNDS = False
if not all(_HAS_TILES.values()):
    registers.emit_instruction = _emit_instruction
