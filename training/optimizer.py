"""The optimizer of the paper: Adam at the rate it is given, without weight decay.

Decay would pull scores below the threshold. Schedules and clipping are the loop's to leave out.
"""

from collections.abc import Iterable

import torch
from torch import nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Make Adam over `parameters` in its fused form, which takes one pass over them.

    Args:
        parameters: what learns.
        lr: learning rate.
    """
    return torch.optim.Adam(parameters, lr=lr, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True)
