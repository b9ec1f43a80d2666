"""What two ways of learning the same came to, compared."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mask_store import TaskKind

TOLERANCE = 5e-6  # a two-hundredth of a step of Adam at 1e-3


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
