"""Triton interpreter: the Triton kernel without a GPU, on CPU tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from triton.language import bfloat16, float32
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder, TensorHandle

from masking.kernels import StripMask, WordMask, linear
from masking.kernels.cuda import kernel as triton_kernels
from masking.kernels.cuda import launch as cuda


class Interpreted:
    """Stands for the tuned kernel; the tile is a given one instead of the fastest."""

    def __init__(self, block_rows: int, tiles: int, words: int, splits: int) -> None:
        self._chosen = {"BLOCK_ROWS": block_rows, "TILES": tiles, "WORDS": words, "SPLITS": splits}
        self._function = interpreted(triton_kernels.multiply_tiles)

    def __getitem__(self, programs: Callable[[dict[str, int]], tuple[int]]) -> Callable[..., None]:
        def run(*arguments: Any, **others: Any) -> None:
            chosen = dict(self._chosen)
            steps = others["columns"] // (32 * chosen["WORDS"])
            chosen["SPLITS"] = min(chosen["SPLITS"], max(steps, 1))  # each has one or more
            self._function[programs(chosen)](*arguments, **others, **chosen)

        return run


def interpreted(function: Any) -> InterpretedFunction:
    """The same function, run by the interpreter."""
    return InterpretedFunction(function.fn)


def _widened(operand: Any) -> Any:
    if operand.dtype.scalar != bfloat16:
        return operand
    return TensorHandle((operand.data.astype(np.uint32) << 16).view(np.float32), float32)


def interpret(
    monkeypatch: pytest.MonkeyPatch, block_rows: int = 32, tiles: int = 2, words: int = 2, splits: int = 1
) -> None:
    """From here on CPU tensors take the Triton kernel, interpreted: slow, so few programs."""
    multiply = InterpreterBuilder.create_dot  # which would take bfloat16 for integers

    def create_dot(self: Any, left: Any, right: Any, *others: Any) -> Any:
        return multiply(self, _widened(left), _widened(right), *others)

    def kernel_layout(inputs: torch.Tensor, weight: torch.Tensor) -> type[StripMask] | type[WordMask] | None:
        return WordMask

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
    monkeypatch.setattr(linear, "_kernel_layout", kernel_layout)
    monkeypatch.setattr(
        cuda._kernels(), "tuned_multiply_tiles", Interpreted(block_rows, tiles, words, splits)
    )
    for name in ("_apply_words", "_write", "_write_if_last"):
        monkeypatch.setattr(triton_kernels, name, interpreted(getattr(triton_kernels, name)))
