"""Adapter of the server's encoder for the benchmarks: the one place that knows its interface."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from lab.random_tasks import Workload
from masking import Base, Features, LoadedTask, MaskedEncoder, TaskBatch


def counted_bytes(task: LoadedTask) -> int:
    """Count the bytes of all tensors of a loaded task."""
    return task.masks_nbytes + task.head_nbytes


class Ours:
    """The resident encoder."""

    def __init__(self, base: Base, precision: str = "fp32") -> None:
        """Make one encoder over `base`, that computes in a precision.

        Raises:
            ValueError: It does not know the precision; some say so when they compute.
        """
        self._encoder = MaskedEncoder(base, cast(Any, precision))

    def answer(self, task: LoadedTask, features: list[Features]) -> None:
        """Compute inputs of one task."""
        self._encoder.logits([TaskBatch(task, features)])

    def ready(self, workload: Workload) -> Callable[[], Tensor]:
        """Make a function that computes a workload: logits, float32 [rows, classes]."""
        pairs = zip(workload.tasks, workload.features, strict=True)
        parts = [TaskBatch(task.loaded, features) for task, features in pairs]

        def run() -> Tensor:
            answers = self._encoder.logits(parts)
            return torch.stack([torch.from_numpy(row) for answer in answers for row in answer])

        return run
