from typing import Any

import numpy as np
import pytest
import torch

from masking import ValuesPrediction
from training.errors import LabelError
from training.kinds import TRAINING_KINDS, Columns
from training.kinds.fields import UnusableRowError

KIND = TRAINING_KINDS["regression"]
COLUMNS: Columns = {"text": "text", "label": "score"}


def _read(value: Any) -> Any:
    return KIND.read({"text": "t", "score": value}, COLUMNS).target


@pytest.mark.parametrize(
    ("value", "target"),
    [(3, (3.0,)), (2.5, (2.5,)), ("-1.5e2", (-150.0,)), ([1, 2], (1.0, 2.0)), ("[0.5, 1]", (0.5, 1.0))],
)
def test_values_are_numbers_or_lists_of_them(value: Any, target: tuple[float, ...]) -> None:
    assert _read(value) == target


@pytest.mark.parametrize("value", ["good", "1,5", float("inf"), "nan", [1, None], {"a": 1}])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(UnusableRowError, match="'score'"):
        _read(value)


def _judge(*values: Any, missing: str | None = None) -> Any:
    readings = [KIND.read({"text": "t", "score": value}, COLUMNS) for value in values]
    return KIND.judge([(one.input, one.target) for one in readings], missing)


def test_rows_with_the_value_that_means_none_are_left_out() -> None:
    judgement = _judge(1, 2, -1, missing="-1")
    assert judgement.notes == ("value -1 means no value: its 1 rows are left out",)
    with pytest.raises(UnusableRowError, match="value -1 means none"):
        judgement.settle(None, (-1.0,))


@pytest.mark.parametrize(
    ("values", "missing", "message"),
    [
        ((1, 1), None, "the same value"),
        (([1, 2], 3), None, "1 to 2 values"),
        ((1, 2), "none", "not a number"),
    ],
)
def test_values_that_cannot_be_learned_are_refused(
    values: tuple[Any, ...], missing: str | None, message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        _judge(*values, missing=missing)


def test_the_loss_is_the_mean_squared_error() -> None:
    logits = torch.tensor([[1.0, 2.0], [0.0, 0.0], [5.0, 5.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 2.0], [1.0, 1.0], [torch.nan, torch.nan]])
    loss = KIND.loss(logits, targets, [1, 1, 1], 2)
    assert loss.item() == pytest.approx(torch.nn.MSELoss()(logits[:2], targets[:2]).item())
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2].tolist() == [0.0, 0.0]


def _measure(right: list[float], found: list[float]) -> dict[str, float]:
    values = [np.array([one], np.float32) for one in found]
    return KIND.measure(("s",), [(one,) for one in right], [ValuesPrediction(one, one) for one in values])


def test_correlations_and_error() -> None:
    metrics = _measure([1, 2, 3, 4], [1, 2, 3, 8])
    assert metrics["pearson"] == pytest.approx(np.corrcoef([1, 2, 3, 4], [1, 2, 3, 8])[0, 1])
    assert metrics["spearman"] == pytest.approx(1.0)
    assert metrics["rmse"] == pytest.approx(2.0)


def test_equal_values_share_their_rank() -> None:
    assert _measure([1, 1, 2, 3], [5, 5, 6, 7])["spearman"] == pytest.approx(1.0)
    assert _measure([1, 2, 3, 4], [1, 1, 2, 2])["spearman"] == pytest.approx(2 / 5**0.5)


def test_one_answer_for_everything_has_no_correlation() -> None:
    metrics = _measure([1, 2, 3], [2, 2, 2])
    assert (metrics["pearson"], metrics["spearman"]) == (0.0, 0.0)
    assert KIND.baseline(("s",), [(1.0,)], "pearson").value == 0.0


def test_the_bias_starts_from_the_mean() -> None:
    assert KIND.bias([(1.0, 0.0), (3.0, 1.0)]) == (2.0, 0.5)
