"""Tensors: those that autograd keeps for the backward pass, and the comparison of learned states."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mask_store import TaskKind

TOLERANCE = 5e-6  # a two-hundredth of a step of Adam at 1e-3


@contextmanager
def saved_for_backward() -> Iterator[list[Tensor]]:
    """Collects the tensors that operations inside keep for their backward pass, in order."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def assert_learned_alike(kind: TaskKind, mine: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Asserts that learned states agree, up to the rounding of sums.

    Left out is what the output does not depend on, for its gradient is rounding alone: the biases of keys,
    and the classifier's where softmax goes over the choices, which share it.
    """
    assert mine.keys() == expected.keys()
    without_effect = ("key.bias", *(["classifier.bias"] if kind == "multiple-choice" else []))
    for name, tensor in expected.items():
        if not name.endswith(tuple(without_effect)):
            torch.testing.assert_close(mine[name], tensor, atol=TOLERANCE, rtol=0.0)
