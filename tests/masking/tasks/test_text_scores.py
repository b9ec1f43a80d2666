import numpy as np
import pytest

from mask_store import TaskKind
from masking import Base, LabelsPrediction, TaskSpec, TextInput, ValuesPrediction, task_codec

LOGITS = np.array([2.0, -1.0, 0.0], np.float32)
SIGMOIDS = [0.880797, 0.268941, 0.5]


def _decode(base: Base, kind: TaskKind, thresholds: tuple[float, ...] = ()) -> object:
    spec = TaskSpec(kind, ("a", "b", "c"), max_length=16, thresholds=thresholds)
    return task_codec(spec, base.tokenizer).decode(LOGITS)


def test_labels_are_those_that_reach_one_half(base: Base) -> None:
    found = _decode(base, "multi-label-classification")
    assert isinstance(found, LabelsPrediction)
    assert found.scores == pytest.approx(SIGMOIDS, abs=1e-6)
    assert (found.labels, found.indices, found.ranking) == (("a", "c"), (0, 2), [0, 2, 1])


def test_each_label_has_its_threshold(base: Base) -> None:
    found = _decode(base, "multi-label-classification", (0.9, 0.2, 0.5))
    assert isinstance(found, LabelsPrediction)
    assert found.labels == ("b", "c")


def test_no_label_may_be_right(base: Base) -> None:
    found = _decode(base, "multi-label-classification", (0.9, 0.9, 0.9))
    assert isinstance(found, LabelsPrediction)
    assert (found.labels, found.indices) == ((), ())


def test_values_are_the_logits_and_relevance_their_sigmoid(base: Base) -> None:
    values, relevance = _decode(base, "regression"), _decode(base, "reranking")
    assert isinstance(values, ValuesPrediction)
    assert isinstance(relevance, ValuesPrediction)
    assert values.scores.tolist() == LOGITS.tolist()
    assert relevance.scores == pytest.approx(SIGMOIDS, abs=1e-6)
    assert relevance.logits.tolist() == LOGITS.tolist()


def test_far_logits_stay_finite(base: Base) -> None:
    spec = TaskSpec("reranking", ("relevance",), max_length=16, pair=True)
    codec = task_codec(spec, base.tokenizer)
    far = [codec.decode(np.array([logit], np.float32)).scores[0] for logit in (-1000.0, 1000.0)]
    assert far == [0.0, 1.0]


def test_they_encode_as_sequence_classification(base: Base) -> None:
    kinds: tuple[TaskKind, ...] = ("sequence-classification", "multi-label-classification", "regression")
    rows = [
        task_codec(TaskSpec(kind, ("a", "b"), max_length=16), base.tokenizer).encode(
            [TextInput("the movie was good")], truncate=False
        )
        for kind in kinds
    ]
    assert rows[0] == rows[1] == rows[2]
