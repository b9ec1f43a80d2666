"""The loss of each kind of task: cross entropy over labels, or over an example's choices."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from mask_store import TaskKind
from training.data.features import IGNORED


def task_loss(
    kind: TaskKind, logits: Tensor, targets: Tensor, counts: Sequence[int], total: int | Tensor
) -> Tensor:
    """Cross entropy of one batch, or its part in that of a step of several batches.

    Args:
        kind: kind of task.
        logits: float32 [rows, labels]; [rows, tokens, labels] for token classification; [rows, 1] for
            multiple choice.
        targets: int64 [examples]; [rows, tokens] for token classification; `IGNORED` where nothing is to
            be predicted, as at tokens without a label.
        counts: rows of each example: the number of its choices for multiple choice, which may vary.
        total: targets of the whole step: its examples, or its labelled words for token classification.

    Returns:
        A scalar: the sum over the batch's targets, divided by `total`; the mean where the batch is the step.
    """
    if kind == "token-classification":
        logits, targets = logits.flatten(0, 1), targets.flatten()
    if kind == "multiple-choice":
        logits = choice_logits(logits, counts)
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum") / total


def choice_logits(logits: Tensor, counts: Sequence[int]) -> Tensor:
    """Lay the logits of each example's choices side by side.

    Args:
        logits: float32 [rows, 1], a row a choice.
        counts: choices of each example, summing to rows.

    Returns:
        float32 [examples, most choices]; minus infinity, which softmax turns to 0, where an example has
        fewer.
    """
    choices = list(torch.split(logits.squeeze(-1), list(counts)))
    return pad_sequence(choices, batch_first=True, padding_value=float("-inf"))
