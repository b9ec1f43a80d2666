import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mask_store import pack_bits
from masking import (
    BaseMismatchError,
    MaskedEncoder,
    TaskSpec,
    TextInput,
    UnknownLayerError,
    UnpackedMasks,
    load_base,
    load_task,
)
from masking.serving import expand_bits
from tests.tiny import random_bundle, tiny_base

SPEC = TaskSpec("sequence-classification", False, ("bad", "good"), 16)


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 64, 100])
def test_expanding_undoes_packing(columns: int) -> None:
    mask = np.random.default_rng(columns).random((13, columns)) > 0.4
    expanded = expand_bits(torch.from_numpy(pack_bits(mask)), columns)
    assert expanded.dtype == torch.bool
    np.testing.assert_array_equal(expanded.numpy(), mask)


def test_two_tasks_on_one_base_do_not_touch_each_other(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    encoder = MaskedEncoder(base)
    tasks = [load_task(random_bundle(base, SPEC, seed=seed), base) for seed in (1, 2)]
    features = tasks[0].codec.encode([TextInput("the movie was good")], truncate=False)

    def answer(number: int) -> list[float]:
        task = tasks[number]
        return [float(x) for x in encoder.predict(task, task.masks, features)[0]]

    first, second = answer(0), answer(1)
    assert first != second
    assert [answer(0), answer(1), answer(1), answer(0)] == [first, second, second, first]


def test_without_masks_nothing_is_computed(tiny_bert: str) -> None:
    encoder = MaskedEncoder(load_base(tiny_bert))
    with pytest.raises(LookupError):
        encoder._encoder(input_ids=torch.tensor([[2, 3]]))


def test_bytes_of_each_form(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    bundle = random_bundle(base, SPEC)
    task = load_task(bundle, base)
    assert task.masks.nbytes == bundle.manifest.mask_bytes
    assert task.masks.unpack().nbytes == bundle.manifest.mask_bits
    assert task.head_nbytes == (2 * 32 + 2) * 4


def test_a_mask_of_another_base_is_refused_with_both_names(tiny_bert: str, tmp_path: Path) -> None:
    other = load_base(tiny_base(tmp_path / "other-base", seed=5))
    bundle = random_bundle(other, SPEC, task="sentiment")
    with pytest.raises(BaseMismatchError, match=r"'sentiment'.*'other-base'.*'tiny-bert'"):
        load_task(bundle, load_base(tiny_bert))


def test_a_bundle_that_names_the_base_but_does_not_fit_it_is_refused(tiny_bert: str, tmp_path: Path) -> None:
    deeper = load_base(tiny_base(tmp_path / "deeper", blocks=4, seed=5))
    base = load_base(tiny_bert)
    forged = dataclasses.replace(deeper, info=base.info)
    with pytest.raises(UnknownLayerError, match=r"layer\.3.*maskable"):
        load_task(random_bundle(forged, SPEC), base)


def test_a_bundle_without_the_pooler_that_its_base_lacks_is_refused(tmp_path: Path) -> None:
    with_pooler = load_base(tiny_base(tmp_path / "with"))
    without = load_base(tiny_base(tmp_path / "without", pooler=False))
    forged = dataclasses.replace(with_pooler, info=without.info)
    with pytest.raises(UnknownLayerError, match="head of task"):
        load_task(random_bundle(forged, SPEC), without)


def test_a_task_longer_than_the_base_is_refused(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    spec = dataclasses.replace(SPEC, max_length=65)
    with pytest.raises(BaseMismatchError, match="65 tokens"):
        load_task(random_bundle(base, spec), base)


def test_unmasked_layers_are_applied_as_they_are() -> None:
    weight, inputs = torch.randn(4, 8), torch.randn(3, 8)
    masks = UnpackedMasks({"other": torch.zeros(4, 8, dtype=torch.bool)})
    assert torch.equal(masks.linear("plain", inputs, weight, None), inputs @ weight.T)
    assert not masks.linear("other", inputs, weight, None).any()
