"""Optimizer of the paper: Adam at a constant rate, without weight decay.

Decay would pull scores below the threshold. Schedules and clipping are up to the loop.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def adam(parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float) -> torch.optim.Adam:
    """Make Adam over `parameters` in its fused form, which takes one pass over them.

    Args:
        parameters: What learns, or groups of it as torch's optimizers take them.
        lr: Learning rate, where a group names no other.
    """
    return torch.optim.Adam(parameters, lr=lr, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True)


def parameter_groups(learned: Mapping[str, nn.Parameter], head_lr: float | None) -> list[dict[str, Any]]:
    """Return what learns as groups: one, or with a rate for the head two of which the second is the head.

    Args:
        learned: What learns by name; a trained head's names start with ``head.``.
        head_lr: Learning rate of a trained head; None for that of the rest.
    """
    if head_lr is None:
        return [{"params": list(learned.values())}]
    head = [p for name, p in learned.items() if name.startswith("head.")]
    rest = [p for name, p in learned.items() if not name.startswith("head.")]
    return [{"params": rest}, {"params": head, "lr": head_lr}]
