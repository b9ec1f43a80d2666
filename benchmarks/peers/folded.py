"""Folded copies: a task's masks multiplied into a plain copy of the encoder, as finetuning leaves one."""

from collections.abc import Sequence

import torch

from benchmarks.errors import BenchmarkError
from masking import Base, FinetunedModel, LoadedTask, Member
from masking.binarize import apply_mask
from masking.heads import POOLER
from masking.inference.combine import combine_logits
from masking.tasks.predictions import Floats
from training.data.features import EncodedExample
from training.loop.evaluation import predict_logits

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Precisions in which torch computes a copy, and the dtype of its weights and activations."""


def folded_copy(base: Base, task: LoadedTask, member: Member) -> FinetunedModel:
    """Copy the encoder with a member's head, every weight under its mask.

    Args:
        base: The encoder; not changed.
        task: The task, loaded in fp32.
        member: One of its members.

    Raises:
        BenchmarkError: A mask is of a layer that the copy does not have.
    """
    model = FinetunedModel.create(base, task.spec, seed=0)
    with torch.no_grad():
        for name, mask in member.masks.layers.items():
            linear = model.pooler if name == POOLER else model.encoder.get_submodule(name)
            if not isinstance(linear, torch.nn.Linear):
                raise BenchmarkError(f"task {task.name!r}: a copy has no layer {name!r} to mask")
            linear.weight.copy_(apply_mask(linear.weight, mask.expand()))
        for name, tensor in member.head.items():
            model.get_parameter(name.replace(POOLER, "pooler")).copy_(tensor)
    return model.requires_grad_(False)


def copied_logits(
    base: Base, task: LoadedTask, examples: Sequence[EncodedExample], precision: str, *, max_rows: int
) -> list[Floats]:
    """Compute what folded copies of a task's members answer.

    Args:
        base: The encoder.
        task: The task, loaded in fp32.
        examples: At least one, encoded for the task.
        precision: A key of `DTYPES`.
        max_rows: Rows of a batch at most.

    Returns:
        float32 logits of each example, in their order, those of an ensemble combined.
    """
    by_member = []
    for member in task.members:
        copy = folded_copy(base, task, member).to(DTYPES[precision])
        by_member.append(predict_logits(copy, task.codec, examples, max_rows=max_rows))
    if task.combine is None:
        return by_member[0]
    return [combine_logits(task.combine, one) for one in zip(*by_member, strict=True)]
