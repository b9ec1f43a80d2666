"""Loaded tasks, and the one resident encoder that computes batches of them."""

from masking.serving.encoder import MaskedEncoder, Part
from masking.serving.forms import LayerMasks, MaskForm, PackedMasks, larger_forms
from masking.serving.loaded import LoadedTask, Member, load_task, maskable_linears

__all__ = [
    "LayerMasks",
    "LoadedTask",
    "MaskForm",
    "MaskedEncoder",
    "Member",
    "PackedMasks",
    "Part",
    "larger_forms",
    "load_task",
    "maskable_linears",
]
