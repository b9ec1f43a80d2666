from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from masking import TextInput, ValuesPrediction
from training.errors import LabelError
from training.kinds import TRAINING_KINDS, Columns
from training.kinds.fields import UnusableRowError

KIND = TRAINING_KINDS["reranking"]
COLUMNS: Columns = {"text": "query", "pair": "document", "label": "label"}


def _settled(*labels: Any, missing: str | None = None) -> list[Any]:
    readings = [KIND.read({"query": "q", "document": "d", "label": label}, COLUMNS) for label in labels]
    judgement = KIND.judge([(one.input, one.target) for one in readings], missing)
    return [judgement.settle(one.input, one.target) for one in readings]


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        ((0, 1), [(0.0,), (1.0,)]),
        (("false", True), [(0.0,), (1.0,)]),
        (("irrelevant", "Relevant"), [(0.0,), (1.0,)]),
        ((0, 0.25), [(0.0,), (0.25,)]),
        ((0, 3, 1.5), [(0.0,), (1.0,), (0.5,)]),
    ],
)
def test_relevance_is_from_0_to_1(labels: tuple[Any, ...], targets: list[Any]) -> None:
    assert _settled(*labels) == targets


def test_names_are_refused_with_what_would_be_right() -> None:
    with pytest.raises(UnusableRowError, match="such as 0 and 1"):
        _settled("entailment", "not_entailment")


@pytest.mark.parametrize("labels", [(1, 1), (-1, 1)])
def test_grades_that_cannot_be_learned_are_refused(labels: tuple[Any, ...]) -> None:
    with pytest.raises(LabelError, match="relevance must be 0 or more"):
        _settled(*labels)


def test_a_grade_that_means_none_is_left_out() -> None:
    with pytest.raises(UnusableRowError, match="means none"):
        _settled(0, 1, -1, missing="-1")


def test_rankings_are_measured_query_by_query() -> None:
    rows = [("a", 1, 0.9), ("a", 0, 0.1), ("b", 0, 0.8), ("b", 1, 0.7), ("b", 0, 0.2), ("c", 1, 0.3)]
    inputs = [TextInput(query, str(place)) for place, (query, _, _) in enumerate(rows)]
    scores = [np.array([score], np.float32) for _, _, score in rows]
    predictions = [ValuesPrediction(one, one) for one in scores]
    metrics = KIND.measure(("relevance",), [(right,) for _, right, _ in rows], predictions, inputs)
    right, found = zip(*[(right, score) for _, right, score in rows], strict=True)
    assert metrics["average_precision"] == pytest.approx(average_precision_score(right, found))
    assert metrics["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert metrics["ndcg"] == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_the_baseline_is_chance() -> None:
    truth = [(1.0,), (0.0,), (0.0,), (0.0,)]
    assert KIND.baseline(("relevance",), truth, "average_precision").value == 0.25
    assert KIND.baseline(("relevance",), truth, "ndcg").value == 0.0
