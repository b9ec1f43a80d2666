"""How the benchmarks call the server's encoder: the one place that knows its interface."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lab.random_tasks import RandomTask, Workload
from masking import Base, Features, LayerMasks, LoadedTask, MaskedEncoder, TaskBatch, maskable_linears

RESIDENT, HOT = "packed", "folded"
"""The form that every loaded task has, and the one that takes the most memory and no work for each batch."""

FORM_BYTES: Mapping[str, int] = {RESIDENT: 0, HOT: 4}
"""Bytes per masked weight that a form takes beside the resident one."""


def counted_bytes(task: LoadedTask) -> int:
    """Bytes of all tensors of a loaded task."""
    return task.masks_nbytes + task.head_nbytes


class Ours:
    """The resident encoder, and the forms of masks made so far."""

    def __init__(self, base: Base) -> None:
        """One encoder over `base`."""
        self._encoder, self._linears = MaskedEncoder(base), maskable_linears(base)
        self._folded: dict[RandomTask, LayerMasks] = {}

    def answer(self, task: LoadedTask, features: list[Features]) -> None:
        """Computes inputs of one task with its resident masks."""
        self._encoder.logits([TaskBatch(task, features)])

    def ready(self, workload: Workload, form: str = RESIDENT) -> Callable[[], Tensor]:
        """What computes a workload with all masks in one form: logits, float32 [rows, classes]."""
        pairs = zip(workload.tasks, workload.features, strict=True)
        parts = [TaskBatch(task.loaded, features, self._masks(task, form)) for task, features in pairs]

        def run() -> Tensor:
            answers = self._encoder.logits(parts)
            return torch.stack([torch.from_numpy(row) for answer in answers for row in answer])

        return run

    def _masks(self, task: RandomTask, form: str) -> list[LayerMasks]:
        (member,) = task.loaded.members
        if form == RESIDENT:
            return [member.masks]
        if task not in self._folded:
            self._folded[task] = member.masks.fold(self._linears)
        return [self._folded[task]]
