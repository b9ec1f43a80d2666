"""Loaded tasks, and the one resident encoder that computes batches of them."""

from masking.inference.encoder import MaskedEncoder, TaskBatch
from masking.inference.loaded_task import LoadedTask, Member, load_task, maskable_linears
from masking.inference.task_masks import LayerMasks, MaskForm, PackedMasks, larger_forms

__all__ = [
    "LayerMasks",
    "LoadedTask",
    "MaskForm",
    "MaskedEncoder",
    "Member",
    "PackedMasks",
    "TaskBatch",
    "larger_forms",
    "load_task",
    "maskable_linears",
]
