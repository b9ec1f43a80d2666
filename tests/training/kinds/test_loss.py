import math

import pytest
import torch

from training.data.features import IGNORED
from training.kinds.loss import choice_logits, task_loss


def test_classes() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    loss = task_loss("sequence-classification", logits, torch.tensor([0, 1]), [1, 1], 2)
    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert loss.item() == pytest.approx(expected)


def test_words_count_at_their_last_wordpiece_only() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 1] = torch.tensor([5.0, 0.0, 0.0, 0.0])
    targets = torch.tensor([[IGNORED, IGNORED, 2]])
    logits.requires_grad_()
    loss = task_loss("token-classification", logits, targets, [1], 1)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert logits.grad is not None
    assert logits.grad[0, :2].abs().sum() == 0.0
    assert logits.grad[0, 2].abs().sum() > 0.0


def test_choices_compete_within_their_example_however_many_there_are() -> None:
    logits = torch.tensor([[1.0], [1.0], [0.0], [0.0], [0.0]], requires_grad=True)
    loss = task_loss("multiple-choice", logits, torch.tensor([1, 2]), [2, 3], 2)
    loss.backward()
    assert loss.item() == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_missing_choices_are_impossible() -> None:
    laid_out = choice_logits(torch.tensor([[1.0], [2.0], [3.0]]), [1, 2])
    assert laid_out.tolist() == [[1.0, -math.inf], [2.0, 3.0]]
