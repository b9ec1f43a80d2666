"""How the benchmarks call the server's encoder: the one place that knows its interface."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.tasks import RandomTask, Workload
from masking import Base, Features, LayerMasks, LoadedTask, MaskedEncoder

RESIDENT = "packed"
"""The form that every loaded task has; the others are made of it where memory allows."""

FORMS: Mapping[str, Callable[[LoadedTask], LayerMasks]] = {
    RESIDENT: lambda task: task.masks,
    "unpacked": lambda task: task.masks.unpack(),
}
FORM_BYTES: Mapping[str, int] = {RESIDENT: 0, "unpacked": 1}
"""Bytes per masked weight that a form takes beside the resident one."""


def counted_bytes(task: LoadedTask) -> int:
    """Bytes of all tensors of a loaded task."""
    return task.masks.nbytes + task.head_nbytes


class Ours:
    """The resident encoder, and the forms of masks made so far."""

    def __init__(self, base: Base) -> None:
        """One encoder over `base`."""
        self._encoder = MaskedEncoder(base)
        self._made: dict[tuple[RandomTask, str], LayerMasks] = {}

    def answer(self, task: LoadedTask, features: list[Features]) -> None:
        """Computes inputs of one task with its resident masks."""
        self._encoder.predict(task, FORMS[RESIDENT](task), features)

    def ready(self, workload: Workload, form: str = RESIDENT) -> Callable[[], Tensor]:
        """What computes a workload with all masks in one form: logits, float32 [rows, classes]."""
        parts = [
            (task.loaded, self._masks(task, form), features)
            for task, features in zip(workload.tasks, workload.features, strict=True)
        ]

        def run() -> Tensor:
            answers = [self._encoder.predict(*part) for part in parts]
            return torch.stack([torch.from_numpy(row) for answer in answers for row in answer])

        return run

    def _masks(self, task: RandomTask, form: str) -> LayerMasks:
        if (task, form) not in self._made:
            self._made[task, form] = FORMS[form](task.loaded)
        return self._made[task, form]
