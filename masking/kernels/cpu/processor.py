"""Processor: which instruction sets this CPU has, and which precisions the kernels multiply with them.

Only what numba compiles for counts, so `NUMBA_CPU_FEATURES` narrows it as it narrows the compiled code.
"""

import ctypes
import platform
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

CPUINFO = Path("/proc/cpuinfo")
LinePrecision: TypeAlias = Literal["fp32", "bf16", "int8"]

NEEDED: dict[str, tuple[str, str]] = {
    "fp32": ("avx2", "AVX2"),
    "bf16": ("avx512bf16", "AVX512-BF16"),
    "int8": ("avx512vnni", "AVX512-VNNI"),
}
"""By precision LLVM's name of the instruction set that multiplies it, and the vendors' name."""

_WIDE, _WIDE_NAME = "avx512bw", "AVX-512"
_BESIDE = {"fp32": "fma", "bf16": _WIDE, "int8": _WIDE}  # what the kernel takes for granted with it

TILES: dict[str, tuple[str, str]] = {
    "bf16": ("amx-bf16", "AMX-BF16"),
    "int8": ("amx-int8", "AMX-INT8"),
}
"""The same of those that multiply it in tile registers, where there are any."""

_SHOWN = {
    "avx2": "AVX2",
    "avxvnni": "AVX-VNNI",
    "avx512f": _WIDE_NAME,
    **dict(NEEDED.values()),
    **dict(TILES.values()),
}
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_REGISTERS = 158, 0x1023, 18


@cache
def features() -> frozenset[str]:
    """Return LLVM's names of the instruction sets that numba compiles for; none without numba."""
    try:
        from llvmlite import binding  # noqa: PLC0415 (llvmlite and numba are optional and slow to import)
        from numba.core import config  # noqa: PLC0415
    except ImportError:
        return frozenset()
    if config.CPU_FEATURES is not None:
        return frozenset(one[1:] for one in config.CPU_FEATURES.split(",") if one.startswith("+"))
    return frozenset(name for name, present in binding.get_host_cpu_features().items() if present)


def lacks(precision: str) -> str:
    """Say what this processor lacks for the kernel of a precision; nothing where it has it."""
    feature, name = NEEDED[precision]
    if {_BESIDE[precision], feature} <= features():
        return ""
    return f"needs a processor with {name}, and this one has {', '.join(instruction_sets()) or 'only SSE'}"


def is_wide() -> bool:
    """Tell whether a vector register holds 64 bytes, and masks have registers of their own."""
    return _WIDE in features()


@cache
def has_tiles(precision: str) -> bool:
    """Tell whether a precision can be multiplied in AMX's tile registers here.

    Linux lets a process use them after it has asked, which the first call does.
    """
    wanted = TILES.get(precision)
    return not lacks(precision) and wanted is not None and wanted[0] in features() and _tiles_are_permitted()


@cache
def _tiles_are_permitted() -> bool:
    try:
        refused = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_REGISTERS)
    except (AttributeError, OSError, TypeError):  # no Linux
        return False
    return not refused


def multiplied_by(precision: str) -> str:
    """Return the vendors' name of the instruction set that multiplies a precision which is not lacking."""
    if precision == "fp32" and is_wide():
        return _WIDE_NAME
    return (TILES if has_tiles(precision) else NEEDED)[precision][1]


def cpuinfo() -> dict[str, str]:
    """Return what Linux says of the first processor; nothing elsewhere."""
    try:
        first = CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def processor_name() -> str:
    """Return the processor's name with family and model, as Linux tells them; else the architecture."""
    facts = cpuinfo()
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    return f"{facts['model name']} (family {facts.get('cpu family')}, model {facts.get('model')})"


def instruction_sets() -> tuple[str, ...]:
    """Return the vendors' names of this processor's instruction sets that matter here."""
    return tuple(name for feature, name in _SHOWN.items() if feature in features())
