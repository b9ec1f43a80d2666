from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from masking import EmbeddingPrediction, Features, Row, TextInput
from masking.tasks.predictions import normalise
from training.errors import LabelError, OptionsError
from training.kinds import TRAINING_KINDS, Columns
from training.kinds.embedding import partner_places
from training.kinds.fields import UnusableRowError

KIND = TRAINING_KINDS["embedding"]
SCORED: Columns = {"text": "a", "pair": "b", "label": "score"}
PARTNERS: Columns = {"text": "a", "pair": "b"}


def _readings(columns: Columns, *scores: Any) -> list[Any]:
    rows = [KIND.read({"a": "one", "b": "two", "score": score}, columns) for score in scores]
    return [(row.input, row.target) for row in rows]


def _settled(*scores: Any, missing: str | None = None) -> list[Any]:
    judgement = KIND.judge(readings := _readings(SCORED, *scores), missing)
    return [judgement.settle(given, target) for given, target in readings]


def test_rows_are_pairs_with_or_without_a_similarity() -> None:
    ((given, target),) = _readings(SCORED, "0.5")
    assert (given, target) == (TextInput("one", "two"), (0.5,))
    ((given, target),) = _readings(PARTNERS, None)
    assert (given, target) == (TextInput("one", "two"), 0)
    with pytest.raises(UnusableRowError, match="must be one number, found 2"):
        _readings(SCORED, [0.5, 1])


def test_similarities_are_brought_to_one() -> None:
    assert _settled(0, 2.5, 5) == [(0.0,), (0.5,), (1.0,)]
    assert _settled(-1, 0.25) == [(-1.0,), (0.25,)]
    assert KIND.judge(_readings(SCORED, 0, 5), None).notes == ("similarities from 0 to 5, divided by 5",)
    with pytest.raises(UnusableRowError, match="similarity -1 means none"):
        _settled(0, 5, -1, missing="-1")


@pytest.mark.parametrize("scores", [(1, 1), (-1, 3), (-2, 0)])
def test_other_similarities_are_refused(scores: tuple[float, ...]) -> None:
    with pytest.raises(LabelError, match="must lie between -1 and 1"):
        KIND.judge(_readings(SCORED, *scores), None)


def test_single_texts_are_refused() -> None:
    row = KIND.read({"a": "one"}, {"text": "a"})
    with pytest.raises(LabelError, match="name the second text with --pair-column"):
        KIND.judge([(row.input, row.target)], None)


def _items(targets: Sequence[Any], seconds: Sequence[int] = (5, 6, 7)) -> list[Any]:
    rows = [(Row.of((1, number, 3)), Row.of((1, 9 + number, 3))) for number in seconds]
    return [(Features(pair), KIND.numbers(one, {})) for pair, one in zip(rows, targets, strict=True)]


def _loss(vectors: Tensor, targets: Tensor, rows: int = 2, total: int = 3) -> Tensor:
    return KIND.loss(vectors, targets, [rows] * (len(vectors) // rows), total)


VECTORS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def test_the_loss_of_similarities_is_the_squared_error_of_the_cosine() -> None:
    targets = KIND.targets(_items([(0.0,), (0.5,), (1.0,)]), torch.Size([6, 3]))
    cosines = functional.cosine_similarity(VECTORS[0::2], VECTORS[1::2])
    expected = functional.mse_loss(cosines, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(_loss(VECTORS, targets), expected)


def test_the_loss_of_partners_takes_the_others_of_the_batch_for_wrong() -> None:
    targets = KIND.targets(_items([0, 0, 0]), torch.Size([6, 3]))
    scores = 20 * functional.cosine_similarity(VECTORS[0::2, None], VECTORS[None, 1::2], dim=2)
    expected = functional.cross_entropy(scores, torch.arange(3))
    torch.testing.assert_close(_loss(VECTORS, targets), expected)


def test_equal_texts_are_not_wrong() -> None:
    targets = KIND.targets(_items([0, 0, 0], seconds=(5, 6, 5)), torch.Size([6, 3]))
    assert targets.tolist() == [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]


def test_a_copys_embeddings_are_learned() -> None:
    wanted = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    expected = (1 - functional.cosine_similarity(VECTORS, wanted)).mean()
    torch.testing.assert_close(_loss(VECTORS, wanted, rows=1, total=6), expected)
    assert float(_loss(VECTORS, 3 * VECTORS, rows=1, total=6)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("targets", [[(0.5,)] * 3, [0, 0, 0]])
def test_a_process_without_examples_learns_nothing(targets: list[Any]) -> None:
    laid = KIND.targets(_items(targets), torch.Size([6, 3])).fill_(float("nan"))
    vectors = VECTORS.clone().requires_grad_()
    loss = _loss(vectors, laid)
    loss.backward()
    assert loss.item() == 0.0
    assert vectors.grad is not None
    assert not vectors.grad.any()


def _predictions(*vectors: Any) -> list[EmbeddingPrediction]:
    logits = [np.array(one, np.float32) for one in vectors]
    return [EmbeddingPrediction(one, normalise(one)) for one in logits]


def test_cosines_are_measured_against_similarities() -> None:
    found = _predictions([[1, 0], [1, 0]], [[1, 0], [0, 2]], [[1, 0], [-3, 0]])
    metrics = KIND.measure((), [(1.0,), (0.6,), (0.0,)], found)
    assert metrics["spearman"] == pytest.approx(1.0)
    assert 0.9 < metrics["pearson"] < 1.0


def test_partners_are_found_among_all_second_texts() -> None:
    found = _predictions([[1, 0], [1, 0.1]], [[0, 1], [1, 0]], [[1, 1], [1, 0.9]])
    metrics = KIND.measure((), [(0,), (0,), (0,)], found)
    assert metrics == pytest.approx({"accuracy": 1 / 3, "mrr": (1 / 2 + 1 / 3 + 1) / 3})


def test_a_partner_that_others_have_too_is_found() -> None:
    second = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert partner_places(np.array([[1, 0], [1, 0], [1, 0]], np.float32), second).tolist() == [1, 1, 2]


def test_single_embeddings_are_held_against_a_copys() -> None:
    metrics = KIND.measure((), [(2.0, 0.0), (0.0, 1.0)], _predictions([1, 0], [1, 0]))
    assert metrics == pytest.approx({"cosine": 0.5})


def test_the_metric_follows_from_the_columns() -> None:
    assert KIND.choose_metric((), None, SCORED) == "spearman"
    assert KIND.choose_metric((), None, PARTNERS) == "accuracy"
    assert KIND.choose_metric((), "mrr", PARTNERS) == "mrr"
    assert KIND.choose_metric((), None, {"text": "a"}) == "cosine"
    with pytest.raises(OptionsError, match="--metric spearman: not measured here; choose from accuracy, mrr"):
        KIND.choose_metric((), "spearman", PARTNERS)
