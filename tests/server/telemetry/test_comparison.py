import numpy as np
import pytest

from masking import TaskSpec
from masking.tasks.predictions import (
    ClassPrediction,
    EmbeddingPrediction,
    Floats,
    LabelsPrediction,
    ValuesPrediction,
    WordsPrediction,
)
from server.telemetry.comparison import Comparison

LABELS = TaskSpec("sequence-classification", ("bad", "good"), max_length=8)
TAGS = TaskSpec("token-classification", ("O", "B-PER"), max_length=8)
NUMBER = TaskSpec("regression", ("score",), max_length=8)
NONE = TaskSpec("embedding", (), max_length=8, pooling="mean")


def floats(*values: object) -> Floats:
    return np.array(values, np.float32)


def choice(label: str, *scores: float) -> ClassPrediction:
    return ClassPrediction(floats(*scores), floats(*scores), label, 0)


def words(labels: tuple[str, ...], *scores: tuple[float, ...]) -> WordsPrediction:
    return WordsPrediction(labels, (0,) * len(labels), floats(*scores), floats(*scores))


def test_classes() -> None:
    compare = Comparison(LABELS, LABELS).of
    same = compare(choice("good", 0.25, 0.75), choice("good", 0.5, 0.5))
    assert same.agreement == 1.0
    assert same.difference == pytest.approx(0.25)
    assert compare(choice("good", 0.25, 0.75), choice("bad", 0.75, 0.25)).agreement == 0.0


def test_classes_of_other_labels_are_compared_by_name() -> None:
    other = TaskSpec("sequence-classification", ("good", "odd", "bad"), max_length=8)
    found = Comparison(LABELS, other).of(choice("good", 0.5, 0.5), choice("good", 0.5, 0.375, 0.125))
    assert found.agreement == 1.0
    assert found.difference == pytest.approx(0.375)


def test_choices_without_labels() -> None:
    spec = TaskSpec("multiple-choice", (), max_length=8)
    found = Comparison(spec, spec).of(choice("0", 0.5, 0.25, 0.25), choice("1", 0.25, 0.5, 0.25))
    assert found.agreement == 0.0
    assert found.difference == pytest.approx(0.25)


def test_sets_of_labels() -> None:
    one = LabelsPrediction(floats(0, 0), floats(0.9, 0.6), ("bad", "good"), (0, 1))
    other = LabelsPrediction(floats(0, 0), floats(0.9, 0.4), ("bad",), (0,))
    compare = Comparison(LABELS, LABELS).of
    assert compare(one, one).agreement == 1.0
    found = compare(one, other)
    assert found.agreement == 0.0
    assert found.difference == pytest.approx(0.2)


def test_words() -> None:
    one = words(("O", "B-PER"), (1.0, 0.0), (0.25, 0.75))
    other = words(("O", "O"), (1.0, 0.0), (0.75, 0.25))
    found = Comparison(TAGS, TAGS).of(one, other)
    assert found.agreement == 0.5
    assert found.difference == pytest.approx(0.5)
    more = TaskSpec("token-classification", ("B-PER", "O"), max_length=8)
    turned = words(("O", "B-PER"), (0.0, 1.0), (0.75, 0.25))
    assert Comparison(TAGS, more).of(one, turned).difference == 0.0


def test_no_words() -> None:
    nothing = WordsPrediction((), (), np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))
    found = Comparison(TAGS, TAGS).of(nothing, nothing)
    assert (found.agreement, found.difference) == (1.0, 0.0)


def test_numbers() -> None:
    one, other = (ValuesPrediction(floats(value), floats(value)) for value in (1.5, 3.0))
    found = Comparison(NUMBER, NUMBER).of(one, other)
    assert (found.agreement, found.difference) == (None, 1.5)


def test_embeddings() -> None:
    one, other = (EmbeddingPrediction(floats(*v), floats(*v)) for v in ((1.0, 0.0), (0.6, 0.8)))
    found = Comparison(NONE, NONE).of(one, other)
    assert found.agreement is None
    assert found.difference == pytest.approx(0.4)
