"""Exported models: the plain model with its head, as the engines beside torch take it.

An engine's model is exported once; copies of it differ in the weights that a task masks. In int8 a masked
copy keeps the scales of the plain model, as masking never makes a weight larger. The head is left in fp32.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.peers.columns import Precision
from benchmarks.peers.dense import Run
from lab.random_models import masked_linears
from lab.random_tasks import RandomTask, Workload
from masking import Base
from masking.binarize import apply_mask
from masking.heads import CLASSIFIER, POOLER, head_logits

HEAD = {POOLER: "pooler", CLASSIFIER: "classifier"}
"""Modules of `WholeModel` by the names that masks have."""

Array = NDArray[Any]
Forward = Callable[[NDArray[np.int64]], Tensor]
"""Logits [rows, classes] of token ids [rows, tokens]."""


class Engine(Protocol):
    """An exported model, ready to be compiled."""

    def compile(self, precision: Precision, threads: int, weights: "CopyWeights | None" = None) -> Forward:
        """Compile the plain model, or with `weights` a copy of it.

        Raises:
            UnavailableError: The engine has no such precision on this machine.
        """
        ...


class WholeModel(nn.Module):
    """An encoder with a task's unmasked head, all of it in modules that have names."""

    def __init__(self, base: Base, task: RandomTask) -> None:
        """Share the base's tensors."""
        super().__init__()
        self.encoder = base.encoder
        self.pooler, self.classifier = (_linear(*task.head_linear(name, base)) for name in HEAD)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return logits [rows, classes] of token ids [rows, tokens]."""
        hidden = self.encoder(input_ids=input_ids).last_hidden_state
        return head_logits(hidden, self.pooler, self.classifier, nn.Identity())


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    rows, columns = weight.shape
    linear = nn.Linear(columns, rows).requires_grad_(False)
    linear.load_state_dict({"weight": weight, "bias": bias})
    return linear


def module_names(base: Base) -> dict[str, str]:
    """Return the modules of `WholeModel` whose weights are masked, by the names that masks have."""
    return {name: f"encoder.{name}" for name in masked_linears(base)} | HEAD


class CopyWeights:
    """Weights of one task's copy."""

    def __init__(self, base: Base, head: RandomTask, task: RandomTask) -> None:
        """Keep what weights are made from when they are asked for; `head` is the exported one's task."""
        self._base, self._head, self._task = base, head, task

    def of(self, name: str, exported: Array) -> Array:
        """Return the copy's weights [rows, columns] of a layer, in the dtype of those exported.

        A task has a head of its own; its columns are scaled as quantisation has scaled those exported.
        """
        mask = self._task.bits[name].expand()
        weights: Array
        if name not in HEAD:
            weights = exported * mask.numpy()
            return weights
        weight, _ = self._task.head_linear(name, self._base)
        plain, _ = self._head.head_linear(name, self._base)
        scales = np.linalg.norm(exported, axis=0) / np.linalg.norm(plain.numpy(), axis=0)
        weights = apply_mask(weight, mask).numpy() * scales
        return weights.astype(exported.dtype)


class EngineCopies:
    """A compiled copy per task, made once, kept for the next batch."""

    def __init__(self, compile_one: Callable[[CopyWeights], Forward], head: RandomTask) -> None:
        """Create it without copies; `head` is that of the exported model."""
        self._compile, self._head = compile_one, head
        self._made: dict[RandomTask, Forward] = {}

    def __call__(self, workload: Workload) -> Run:
        """Return a run of all copies, each on its rows."""
        ids = workload.ids.numpy()
        spans = workload.row_segments.spans()
        copies = [self._copy(workload.base, task) for task in workload.tasks]
        parts = [(copy, ids[start:end].copy()) for copy, (start, end) in zip(copies, spans, strict=True)]
        return lambda: torch.cat([copy(rows) for copy, rows in parts])

    def _copy(self, base: Base, task: RandomTask) -> Forward:
        if task not in self._made:
            self._made[task] = self._compile(CopyWeights(base, self._head, task))
        return self._made[task]


@contextmanager
def exporting() -> Iterator[None]:
    """Let a model be traced, without the notes that torch and transformers make about it."""
    loggers: Mapping[str, int] = {name: logging.getLogger(name).level for name in ("", "transformers")}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
