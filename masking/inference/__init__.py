"""Inference: loaded tasks, and the one resident encoder that computes batches of them."""

from masking.inference.encoder import MaskedEncoder, TaskBatch
from masking.inference.loaded_task import LoadedTask, Member, load_task, ready_task
from masking.inference.resident import ResidentWeights
from masking.inference.task_masks import TaskMasks

__all__ = [
    "LoadedTask",
    "MaskedEncoder",
    "Member",
    "ResidentWeights",
    "TaskBatch",
    "TaskMasks",
    "load_task",
    "ready_task",
]
