"""Line kernels: masked products of float32, bfloat16 and 8-bit integers, and what lies between them."""

from masking.kernels.cpu.lines.launch import (
    Finish,
    LineLayer,
    add_and_normalise,
    at_once,
    attend_rows,
    available,
    catch_up,
    line_products,
    ready_mask,
)
from masking.kernels.cpu.lines.sign_launch import add_signs
from masking.kernels.cpu.lines.weights import LineMask, LineWeight
from masking.kernels.cpu.processor import LinePrecision

__all__ = [
    "Finish",
    "LineLayer",
    "LineMask",
    "LinePrecision",
    "LineWeight",
    "add_and_normalise",
    "add_signs",
    "at_once",
    "attend_rows",
    "available",
    "catch_up",
    "line_products",
    "ready_mask",
]
