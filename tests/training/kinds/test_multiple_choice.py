import math

import numpy as np
import pytest
import torch

from masking import ClassPrediction
from training.kinds import TRAINING_KINDS
from training.kinds.multiple_choice import choice_logits

KIND = TRAINING_KINDS["multiple-choice"]


def test_choices_compete_within_their_example_however_many_there_are() -> None:
    logits = torch.tensor([[1.0], [1.0], [0.0], [0.0], [0.0]], requires_grad=True)
    loss = KIND.loss(logits, torch.tensor([1, 2]), [2, 3], 2)
    loss.backward()
    assert loss.item() == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_missing_choices_are_impossible() -> None:
    laid_out = choice_logits(torch.tensor([[1.0], [2.0], [3.0]]), [1, 2])
    assert laid_out.tolist() == [[1.0, -math.inf], [2.0, 3.0]]


def test_choices_are_measured_by_accuracy() -> None:
    logits = np.zeros(2, np.float32)
    predictions = [ClassPrediction(str(index), index, logits, logits) for index in (0, 0, 1, 0)]
    assert KIND.choose_metric((), None) == "accuracy"
    assert KIND.measure((), [(0,), (0,), (1,), (1,)], predictions) == {"accuracy": 0.75}
