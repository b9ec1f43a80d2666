import math

import numpy as np
import pytest
import torch

from masking import ClassPrediction
from training.kinds import TRAINING_KINDS

KIND = TRAINING_KINDS["sequence-classification"]
LABELS = ("a", "b")


def _measure(truth: str, predicted: str) -> dict[str, float]:
    logits = np.zeros(2, np.float32)
    predictions = [ClassPrediction(logits, logits, label, LABELS.index(label)) for label in predicted]
    return KIND.measure(LABELS, [(LABELS.index(label),) for label in truth], predictions)


def test_the_loss_is_the_cross_entropy_over_labels() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    loss = KIND.loss(logits, torch.tensor([0, 1]), [1, 1], 2)
    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert loss.item() == pytest.approx(expected)


def test_the_default_metric_is_accuracy() -> None:
    assert KIND.choose_metric(LABELS, None) == "accuracy"
    assert KIND.choose_metric(LABELS, "matthews_correlation") == "matthews_correlation"


def test_classes_are_measured_by_accuracy_and_matthews_correlation() -> None:
    metrics = _measure("aabb", "aaba")
    assert metrics["accuracy"] == 0.75
    assert metrics["matthews_correlation"] == pytest.approx(1 / 3**0.5)


def test_one_class_for_all_correlates_with_nothing() -> None:
    assert _measure("ab", "aa")["matthews_correlation"] == 0.0
