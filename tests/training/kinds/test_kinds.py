import pytest
import torch

from mask_store import TaskKind
from training.kinds import TRAINING_KINDS
from training.options import METRICS, ROLES


@pytest.mark.parametrize("kind", list(ROLES))
def test_a_kind_has_the_columns_and_metrics_that_can_be_asked_for(kind: TaskKind) -> None:
    own = TRAINING_KINDS[kind]
    assert own.name == kind
    assert tuple(own.columns) == ROLES[kind]
    assert own.optional <= own.columns.keys()
    assert own.choose_metric(("a", "b"), None) in METRICS[kind]


def test_balanced_weights_give_each_label_the_same_part_of_the_loss() -> None:
    kind = TRAINING_KINDS["sequence-classification"]
    truth = [(0,)] * 6 + [(1,)] * 3 + [(2,)]
    weights = torch.tensor(kind.balanced_weights(truth, 3))
    targets = torch.tensor([target[0] for target in truth])
    assert (weights * torch.bincount(targets)).tolist() == pytest.approx([10 / 3] * 3)
    equal = torch.zeros(10, 3)
    plain, weighted = (kind.loss(equal, targets, [1] * 10, 10, own) for own in (None, weights))
    assert float(weighted) == pytest.approx(float(plain))  # the same size, so that a rate stays right
    sure = equal.index_fill(1, torch.tensor([0]), 3.0)
    assert kind.loss(sure, targets, [1] * 10, 10, weights) > kind.loss(sure, targets, [1] * 10, 10)


def test_a_label_among_several_weighs_as_much_as_its_absence() -> None:
    kind = TRAINING_KINDS["multi-label-classification"]
    truth = [(1, 1), (0, 1), (0, 1), (0, 0)]
    weights = torch.tensor(kind.balanced_weights(truth, 2))
    assert weights.tolist() == pytest.approx([3.0, 1 / 3])
    logits = torch.zeros(4, 2, requires_grad=True)
    kind.loss(logits, torch.tensor(truth, dtype=torch.float32), [1] * 4, 4, weights).backward()
    assert logits.grad is not None
    assert logits.grad.sum(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_tags_are_weighed_word_by_word() -> None:
    kind = TRAINING_KINDS["token-classification"]
    assert kind.balanced_weights([(0, 0, 1), (0,)], 2) == pytest.approx((4 / 6, 2.0))
    logits, targets = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]]), torch.tensor([[1, -100]])
    plain, heavy = (kind.loss(logits, targets, [1], 1, own) for own in (None, torch.tensor([1.0, 2.0])))
    assert float(heavy) == pytest.approx(2 * float(plain))
