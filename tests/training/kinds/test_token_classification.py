import math

import numpy as np
import pytest
import torch

from masking import WordsPrediction
from training.errors import OptionsError
from training.kinds import IGNORED, TRAINING_KINDS

KIND = TRAINING_KINDS["token-classification"]
IOB2 = ("B-LOC", "B-PER", "I-PER", "O")


def _measure(labels: tuple[str, ...], truth: list[list[str]], predicted: list[list[str]]) -> dict[str, float]:
    targets = [tuple(labels.index(label) for label in words) for words in truth]
    nothing = np.zeros((0, 0), np.float32)
    predictions = [
        WordsPrediction(tuple(words), tuple(labels.index(label) for label in words), nothing, nothing)
        for words in predicted
    ]
    return KIND.measure(labels, targets, predictions)


def test_words_count_at_their_last_wordpiece_only() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 1] = torch.tensor([5.0, 0.0, 0.0, 0.0])
    targets = torch.tensor([[IGNORED, IGNORED, 2]])
    logits.requires_grad_()
    loss = KIND.loss(logits, targets, [1], 1)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert logits.grad is not None
    assert logits.grad[0, :2].abs().sum() == 0.0
    assert logits.grad[0, 2].abs().sum() > 0.0


def test_the_default_metric_follows_the_labels() -> None:
    assert KIND.choose_metric(("NN", "VB"), None) == "accuracy"
    assert KIND.choose_metric(IOB2, None) == "f1"
    assert KIND.choose_metric(IOB2, "accuracy") == "accuracy"
    assert KIND.choose_metric(("B-LOC", "E-LOC", "S-LOC", "O"), None) == "f1"


def test_the_metric_is_told_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    KIND.choose_metric(("B-LOC", "E-LOC", "O"), None)
    KIND.choose_metric(("NN", "VB"), None)
    entities, words = caplog.messages
    assert entities == "metric: entity F1, as the tags mark entities by IOBES prefixes"
    assert words.startswith("metric: accuracy, as the tags follow no scheme")


def test_entity_f1_needs_tags_that_mark_entities() -> None:
    with pytest.raises(OptionsError, match="NN, VB"):
        KIND.choose_metric(("NN", "VB"), "f1")


def test_words_are_measured_by_accuracy_and_whole_entities() -> None:
    truth = [["B-PER", "I-PER", "O"], ["B-LOC"]]
    predicted = [["B-PER", "O", "O"], ["B-LOC"]]
    assert _measure(IOB2, truth, predicted) == {"accuracy": 0.75, "f1": 0.5}


def test_no_entity_found_is_an_f1_of_zero_without_a_warning() -> None:
    assert _measure(IOB2, [["B-LOC"]], [["O"]])["f1"] == 0.0


def test_an_entity_of_one_word_and_its_end_count_as_whole_entities() -> None:
    labels = ("B-PER", "I-PER", "E-PER", "S-PER", "O")
    truth = [["B-PER", "E-PER", "O", "S-PER"]]
    assert _measure(labels, truth, [["B-PER", "E-PER", "O", "S-PER"]])["f1"] == 1.0
    assert _measure(labels, truth, [["B-PER", "I-PER", "O", "E-PER"]])["f1"] == 1.0  # read leniently
    assert _measure(labels, truth, [["S-PER", "E-PER", "O", "S-PER"]])["f1"] == 0.4


def test_plain_tags_have_no_f1() -> None:
    assert _measure(("NN", "VB"), [["NN"]], [["NN"]]) == {"accuracy": 1.0}
