from pathlib import Path

import pytest
import torch
from torch import Tensor

from mask_store import TaskKind
from masking import FinetunedModel, MaskedModel, MaskSettings, TaskSpec, load_base
from masking.heads import CLASSIFIER, POOLER
from masking.learning.streams import stream
from tests.support.models import tiny_base


def _spec(kind: TaskKind, labels: int) -> TaskSpec:
    return TaskSpec(kind=kind, pair=False, labels=tuple(map(str, range(labels))), max_length=32)


TWO = _spec("sequence-classification", 2)
OTHERS = [
    _spec("sequence-classification", 6),
    _spec("token-classification", 9),
    TaskSpec(kind="multiple-choice", pair=False, labels=(), max_length=32),
]


def _scores(model: MaskedModel) -> dict[str, Tensor]:
    return {name: mask.scores.detach() for name, mask in model.masks.items()}


def test_a_stream_follows_from_seed_and_name() -> None:
    first, again, other, name = (
        torch.rand(4, generator=stream(seed, name)) for seed, name in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, name)


@pytest.mark.parametrize("spec", OTHERS, ids=lambda spec: spec.kind)
def test_masks_start_equal_whatever_the_labels_and_the_masked_blocks(tiny_bert: str, spec: TaskSpec) -> None:
    base = load_base(tiny_bert)
    one = _scores(MaskedModel.create(base, TWO, MaskSettings(blocks="0-"), seed=5))
    other = _scores(MaskedModel.create(base, spec, MaskSettings(blocks="1-"), seed=5))
    shared = (one.keys() & other.keys()) - {CLASSIFIER}
    assert len(shared) == 12 + (POOLER in other)
    assert all(torch.equal(one[name], other[name]) for name in shared)
    again = _scores(MaskedModel.create(base, TWO, MaskSettings(blocks="0-"), seed=6))
    assert not any(torch.equal(one[name], again[name]) for name in one)


def test_heads_of_as_many_outputs_are_the_same_with_both_methods(tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, "bert", pooler=False))
    masked = MaskedModel.create(base, TWO, MaskSettings(head="trained"), seed=5)
    tuned = FinetunedModel.create(base, TWO, seed=5)
    six = FinetunedModel.create(base, OTHERS[0], seed=5)
    assert masked.classifier is not None
    assert tuned.classifier is not None
    assert torch.equal(masked.classifier.weight, tuned.classifier.weight)
    assert masked.pooler and tuned.pooler and six.pooler
    assert torch.equal(masked.pooler.weight, tuned.pooler.weight)
    assert torch.equal(six.pooler.weight, tuned.pooler.weight)
