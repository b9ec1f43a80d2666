"""Random streams: one for each tensor that a model draws, which follows from the seed and the tensor's name.

So the scores of a layer start the same for every task with one seed, whatever their numbers of labels and
whatever else is masked (the paper compares masks that started equal, section 6.2).
"""

import hashlib

import torch


def stream(seed: int, name: str) -> torch.Generator:
    """Return the CPU generator that one tensor is drawn from.

    Args:
        seed: Seed of the model.
        name: What is drawn, such as ``scores of pooler.dense``.
    """
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
