"""Order of the examples: which of them make up the batches of each step of an epoch.

Everything random in a run follows from its seed and from the number of its epoch or step, so that a resumed
run draws what one that was never stopped draws.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from training.options import LoopOptions

T = TypeVar("T")

ORDER, DROPOUT = range(2)
"""The streams of random numbers of a run."""


def derive_seed(seed: int, *path: int) -> int:
    """Return a seed of 32 bits that depends on a run's seed, a stream, and a place in it."""
    return int(np.random.SeedSequence(seed, spawn_key=path).generate_state(1)[0])


def plan_epoch(lengths: Sequence[int], options: LoopOptions, epoch: int) -> list[list[list[int]]]:
    """Shuffle the examples of an epoch, and deal them out to its steps.

    Args:
        lengths: Tokens of each example's longest row.
        options: Batch size, batches a step, seed, and whether batches are of similar length.
        epoch: Number of the epoch, from 0.

    Returns:
        For each step its batches, for each batch the indices of its examples; each example once.
    """
    generator = torch.Generator().manual_seed(derive_seed(options.seed, ORDER, epoch))
    accumulate = options.gradient_accumulation_steps
    if options.group_by_length:
        order: list[int] = get_length_grouped_indices(
            lengths, options.batch_size * accumulate, generator=generator
        )
    else:
        order = torch.randperm(len(lengths), generator=generator).tolist()
    return _chunks(_chunks(order, options.batch_size), accumulate)


def _chunks(items: list[T], size: int) -> list[list[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
