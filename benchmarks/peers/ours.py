"""Adapter of the server's encoder for the benchmarks: the one place that knows its interface."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lab.random_tasks import RandomTask, Workload
from mask_store import MaskBundle
from masking import Base, Features, LoadedTask, MaskedEncoder, TaskBatch, load_task
from masking.inference import ResidentWeights, TaskMasks
from masking.kernels import Precision, choose_precision


def cpu_precision(name: str) -> Precision:
    """Return a precision that this processor has, by its name on a command line.

    Raises:
        argparse.ArgumentTypeError: It does not have it.
    """
    try:
        return choose_precision(name, torch.device("cpu"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def counted_bytes(task: LoadedTask) -> int:
    """Count the bytes of all tensors of a loaded task."""
    return task.nbytes


class Ours:
    """The resident encoder.

    Attributes:
        weights: The base's layers in a precision, which tasks have to be loaded with.
    """

    def __init__(self, base: Base, precision: Precision = "fp32") -> None:
        """Make one encoder over `base`, that computes in a precision.

        Raises:
            ValueError: The base's device does not have it.
        """
        self.weights = ResidentWeights.of(base, precision)
        self._base, self._encoder = base, MaskedEncoder(base, self.weights)
        self._loaded: dict[RandomTask, LoadedTask] = {}

    def answer(self, task: LoadedTask, features: list[Features]) -> None:
        """Compute inputs of one task."""
        self._encoder.logits([TaskBatch(task, features)])

    def ready(self, workload: Workload) -> Callable[[], Tensor]:
        """Make a function that computes a workload: logits, float32 [rows, classes]."""
        return self._run([self._ready(task) for task in workload.tasks], workload)

    def ready_without_masks(self, workload: Workload, head: RandomTask) -> Callable[[], Tensor]:
        """Make a function that computes a workload as one plain model with a head, in as many segments."""
        own = {
            f"{name}.{part}": tensor
            for name in head.head_layers
            for part, tensor in zip(("weight", "bias"), head.head_linear(name, self._base), strict=True)
        }
        task = self._ready(head)
        plain = replace(task, members=(replace(task.members[0], masks=TaskMasks({}), head=own),))
        return self._run([plain] * len(workload.tasks), workload)

    def ready_tasks(self, bundles: Sequence[MaskBundle], workload: Workload) -> Callable[[], Tensor]:
        """Make a function that computes a workload's rows with other tasks than its own, masks or signs."""
        return self._run([load_task(bundle, self._base, self.weights) for bundle in bundles], workload)

    def _run(self, tasks: Sequence[LoadedTask], workload: Workload) -> Callable[[], Tensor]:
        parts = [TaskBatch(*pair) for pair in zip(tasks, workload.features, strict=True)]

        def run() -> Tensor:
            answers = self._encoder.logits(parts)
            return torch.stack([torch.from_numpy(row) for answer in answers for row in answer])

        return run

    def _ready(self, task: RandomTask) -> LoadedTask:
        if task not in self._loaded:
            self._loaded[task] = load_task(task.bundle, self._base, self.weights)
        return self._loaded[task]
