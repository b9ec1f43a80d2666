"""Server parts for tests of engine and parsing: a clock, tasks, features, pending requests and limits."""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np

from masking import Base, Features, LoadedTask, Row, TaskBatch, TaskSpec, load_task
from masking.tasks.predictions import Floats
from server.engine.batch import BatchLimits
from server.engine.pending import PendingRequest
from server.engine.ready_masks import ReadyMasks
from server.engine.retry import Compute
from server.tasks.registry import TaskRegistry
from tests.support.models import random_bundle

SINGLE = TaskSpec("sequence-classification", ("refund", "praise", "other"), max_length=32)
PAIR = TaskSpec("sequence-classification", ("no", "yes"), max_length=32, pair=True)
TAGS = TaskSpec("token-classification", ("O", "B-PER", "I-PER", "B-LOC"), max_length=32)
CHOICE = TaskSpec("multiple-choice", (), max_length=32)


class Clock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def loaded(base: Base, spec: TaskSpec, *, task: str = "demo", seed: int = 0) -> LoadedTask:
    return load_task(random_bundle(base, spec, task=task, seed=seed), base)


def only_digest(digest: str, members: int = 1) -> LoadedTask:
    """What the queue needs of a task."""
    return cast(LoadedTask, SimpleNamespace(digest=digest, copies=members))


def ready_masks(
    *tasks: LoadedTask, budget: int | None = None, registry: TaskRegistry | None = None, seconds: float = 10.0
) -> ReadyMasks:
    """Masks in memory: those of some tasks."""
    masks = ReadyMasks(budget, registry or TaskRegistry(), room_seconds=seconds)
    for task in tasks:
        masks.put(task, evict=True)
    return masks


def features(*lengths: int) -> Features:
    """One input with a row of each length."""
    return Features(tuple(Row.of((7,) * length) for length in lengths))


def pending(
    digest: str, inputs: Sequence[Features], request_id: str = "", *, deadline: float = math.inf
) -> PendingRequest:
    return PendingRequest(only_digest(digest), inputs, request_id, deadline)


TaskBatches = Sequence[TaskBatch]


def zeros(batch: TaskBatches, width: int = 3) -> list[list[Floats]]:
    """A compute that answers every input with zeros."""
    return [[np.zeros(width, np.float32) for _ in one.features] for one in batch]


def by_task(compute: Callable[[LoadedTask, Sequence[Features]], Sequence[Floats]]) -> Compute:
    """A compute that has the tasks of a batch computed one by one."""
    return lambda batch: [compute(one.task, one.features) for one in batch]


def failing_at(name: str) -> Compute:
    """A compute that fails at the rows of one task."""

    def compute(task: LoadedTask, features: Sequence[Features]) -> list[Floats]:
        if task.name == name:
            raise RuntimeError("secret/path")
        return [np.zeros(len(task.spec.labels), np.float32) for _ in features]

    return by_task(compute)


def limits(
    *,
    rows: int = 8,
    tokens: int = 1000,
    wait_seconds: float = 0.0,
    waiting: int = 100,
    waiting_seconds: float = math.inf,
) -> BatchLimits:
    return BatchLimits(rows, tokens, wait_seconds, waiting, waiting_seconds)
