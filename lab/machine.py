"""Machine facts: what a result was measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from masking.kernels.cpu.processor import cpuinfo

_PACKAGES = ("torch", "numpy", "numba", "triton", "transformers")

_INSTRUCTIONS = (
    *("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm", "sve"),
)
"""Instruction sets that decide the speed of matrix products, as Linux names them."""


def describe_machine() -> dict[str, object]:
    """Return processor, vector instructions, usable cores, load, GPU (None without one) and versions.

    `family`, `model` and `instructions` are what /proc/cpuinfo says; without it, None and an empty list.
    """
    facts = cpuinfo()
    flags = facts.get("flags", facts.get("Features", "")).split()
    return {
        "processor": facts.get("model name") or platform.processor(),
        "family": facts.get("cpu family"),
        "model": facts.get("model"),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "gpu": _gpu(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def processor_line() -> str:
    """Write processor, family, model, instruction sets and usable cores, for the head of a table."""
    machine = describe_machine()
    kind = [f"{name} {machine[name]}" for name in ("family", "model") if machine[name] is not None]
    instructions = machine["instructions"]
    assert isinstance(instructions, list)
    named = ", ".join([*kind, *instructions])
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    return f"{machine['processor']}{f' ({named})' if named else ''}, {cores}"


def _gpu() -> dict[str, object] | None:
    if not torch.cuda.is_available():
        return None
    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": device.name,
        "capability": f"{device.major}.{device.minor}",
        "multiprocessors": device.multi_processor_count,
        "bytes": device.total_memory,
        "cuda": torch.version.cuda,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
