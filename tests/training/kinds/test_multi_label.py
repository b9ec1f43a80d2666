from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from masking import LabelsPrediction, TextInput
from masking.tasks.text_scores import predict_labels
from training.kinds import TRAINING_KINDS, Columns, Judgement, Target
from training.kinds.fields import UnusableRowError
from training.kinds.multi_label import best_threshold

KIND = TRAINING_KINDS["multi-label-classification"]
COLUMNS: Columns = {"text": "text", "label": "labels"}
LABELS = ("a", "b", "c")


def _settled(
    *cells: Any, separator: str | None = None, missing: str | None = None
) -> tuple[list[Target], Judgement]:
    readings = [KIND.read({"text": "t", "labels": cell}, COLUMNS) for cell in cells]
    judgement = KIND.judge([(one.input, one.target) for one in readings], missing, separator)
    return [judgement.settle(one.input, one.target) for one in readings], judgement


@pytest.mark.parametrize(
    ("cells", "targets"),
    [
        ((["x", "y"], []), [("x", "y"), ()]),
        (('["x", "y"]', "[]"), [("x", "y"), ()]),
        (("['x' 'y']",), [("x", "y")]),
        (("x|y", "z"), [("x", "y"), ("z",)]),
        (("x, y", "", "z,"), [("x", "y"), (), ("z",)]),
        (("x, y; z", "u"), [("x, y", "z"), ("u",)]),
        (([1, 2.0], [True]), [("1", "2"), ("true",)]),
        ((["x", "x"],), [("x",)]),
        ((3, 5), [("3",), ("5",)]),
        (([0, 1, 0], [0, 0, 0], [1, 1, 0]), [("1",), (), ("0", "1")]),
        (([0], [1], [0, 1]), [("0",), ("1",), ("0", "1")]),
    ],
)
def test_labels_are_read_in_every_form(cells: tuple[Any, ...], targets: list[Target]) -> None:
    assert _settled(*cells)[0] == targets


def test_what_was_inferred_is_told_as_the_option_that_says_it() -> None:
    _, judgement = _settled("x|y", "", "z")
    assert judgement.notes == (
        "labels of a cell are split at '|', as in 'x|y' (--label-separator bar)",
        "1 rows have no label",
    )


@pytest.mark.parametrize(
    ("separator", "target"), [("", ("x|y, z",)), (",", ("x|y", "z")), ("|", ("x", "y, z"))]
)
def test_a_separator_that_is_given_is_the_one(separator: str, target: Target) -> None:
    targets, judgement = _settled("x|y, z", separator=separator)
    assert targets == [target]
    assert judgement.notes == ()


def test_rows_without_labels_are_told_from_rows_with_none() -> None:
    with pytest.raises(UnusableRowError, match="'labels' is missing"):
        KIND.read({"text": "t", "labels": None}, COLUMNS)


def test_a_label_that_means_none_sets_its_row_aside() -> None:
    with pytest.raises(UnusableRowError, match="means no label"):
        _settled(["x"], ["unknown"], missing="unknown")


def test_targets_are_one_for_each_label_that_is_given() -> None:
    index = {label: place for place, label in enumerate(LABELS)}
    assert KIND.numbers(("c", "a"), index) == (1, 0, 1)
    assert KIND.numbers((), index) == (0, 0, 0)


def test_the_loss_is_the_mean_over_labels_and_counts_no_missing_example() -> None:
    logits = torch.tensor([[1.0, -2.0], [0.5, 0.0], [3.0, 3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [torch.nan, torch.nan]])
    loss = KIND.loss(logits, targets, [1, 1, 1], 2)
    expected = torch.nn.BCEWithLogitsLoss()(logits[:2], targets[:2])
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2].tolist() == [0.0, 0.0]


def _predictions(scores: np.ndarray[Any, Any], thresholds: tuple[float, ...] = ()) -> list[LabelsPrediction]:
    logits = np.log(scores / (1 - scores)).astype(np.float32)
    return [predict_labels(row, LABELS[: len(row)], thresholds) for row in logits]


def test_metrics_are_those_of_sklearn() -> None:
    chooser = np.random.default_rng(0)
    right, scores = chooser.integers(0, 2, (50, 3)), chooser.uniform(0.01, 0.99, (50, 3))
    found = (scores >= 0.5).astype(int)
    metrics = KIND.measure(LABELS, [tuple(row) for row in right], _predictions(scores))
    for average in ("micro", "macro"):
        assert metrics[f"f1_{average}"] == pytest.approx(f1_score(right, found, average=average))
    assert metrics["accuracy"] == pytest.approx((right == found).all(axis=1).mean())


def test_thresholds_are_those_with_the_best_f1() -> None:
    chooser = np.random.default_rng(1)
    right = chooser.integers(0, 2, (60, 3))
    scores = np.clip(0.3 * right + chooser.uniform(0.05, 0.6, (60, 3)), 0.01, 0.99)
    truth = [tuple(row) for row in right]
    thresholds = KIND.thresholds(truth, _predictions(scores))
    for label, threshold in enumerate(thresholds):
        tried = [f1_score(right[:, label], scores[:, label] >= t) for t in scores[:, label]]
        own = f1_score(right[:, label], scores[:, label] >= threshold)
        assert own == pytest.approx(max(tried), abs=1e-9)


@pytest.mark.parametrize(
    ("right", "scores", "threshold"),
    [
        ([0, 0], [0.2, 0.9], 0.5),
        ([1, 0], [0.9, 0.2], 0.55),
        ([1, 1], [0.2, 0.2], 0.1),
        ([1, 0, 0], [0.02, 0.01, 0.0], 0.015),
    ],
)
def test_a_threshold_lies_between_two_scores(right: list[int], scores: list[float], threshold: float) -> None:
    found = best_threshold(np.array(right, bool), np.array(scores, np.float32))
    assert found == pytest.approx(threshold, abs=1e-6)


@pytest.mark.parametrize("metric", ["f1_micro", "f1_macro", "accuracy"])
def test_the_baseline_is_what_one_answer_for_everything_reaches(metric: str) -> None:
    truth = [(1, 0, 0), (1, 1, 0), (1, 0, 0), (0, 0, 1)]
    every = [[bool(number & 1 << place) for place in range(3)] for number in range(8)]
    best = max(
        KIND.measure(LABELS, truth, _predictions(np.where([row] * 4, 0.9, 0.1)))[metric] for row in every
    )
    baseline = KIND.baseline(LABELS, truth, metric)
    assert baseline.value == pytest.approx(best)
    assert baseline.how.endswith("for everything")


def test_the_text_or_the_pair_is_the_input() -> None:
    reading = KIND.read({"text": "t", "other": "u", "labels": ["x"]}, {**COLUMNS, "pair": "other"})
    assert reading.input == TextInput("t", "u")
