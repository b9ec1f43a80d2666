import pytest
import torch

from masking import (
    LayerMasks,
    MaskedEncoder,
    TaskBatch,
    TaskSpec,
    TextInput,
    load_base,
    load_task,
    maskable_linears,
)
from tests.support.models import random_bundle

SPEC = TaskSpec("sequence-classification", ("bad", "good"), max_length=16)


def test_every_form_gives_the_same_logits(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    task = load_task(random_bundle(base, SPEC), base)
    packed = task.members[0].masks
    features = task.codec.encode([TextInput("the movie was good")], truncate=False)
    forms: list[LayerMasks] = [packed, packed.unpack(), packed.fold(maskable_linears(base))]
    assert [masks.form for masks in forms] == ["packed", "unpacked", "folded"]
    assert [masks.nbytes for masks in forms] == [packed.bits // 8, packed.bits, 4 * packed.bits]
    answers = [MaskedEncoder(base).logits([TaskBatch(task, features, [masks])])[0][0] for masks in forms]
    for answer in answers:
        assert answer == pytest.approx(answers[0], rel=1e-5)


def test_folding_leaves_the_base_as_it_was(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    linears = maskable_linears(base)
    before = {name: linear.weight.clone() for name, linear in linears.items()}
    folded = load_task(random_bundle(base, SPEC), base).members[0].masks.fold(linears)
    assert all(torch.equal(linears[name].weight, weight) for name, weight in before.items())
    assert any(not torch.equal(mask.fold(before[n]), before[n]) for n, mask in folded.layers.items())
