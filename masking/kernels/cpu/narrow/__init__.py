"""Narrow kernels: masked products of bfloat16 and 8-bit integers, and what lies between two of them."""

from masking.kernels.cpu.narrow.launch import (
    Finish,
    NarrowLayer,
    add_and_normalise,
    attend_rows,
    narrow_products,
    ready_mask,
)
from masking.kernels.cpu.narrow.weights import LineMask, NarrowWeight
from masking.kernels.cpu.processor import NarrowPrecision

__all__ = [
    "Finish",
    "LineMask",
    "NarrowLayer",
    "NarrowPrecision",
    "NarrowWeight",
    "add_and_normalise",
    "attend_rows",
    "narrow_products",
    "ready_mask",
]
