import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mask_store import BaseInfo, HeadTensorInfo, LayerInfo, MaskBundle, TaskManifest, one_line, unpack_bits
from mask_store.format import tensors
from masking import (
    BaseMismatchError,
    TaskSpec,
    UnknownLayerError,
    load_base,
    load_task,
)
from tests.support.models import random_bundle, tiny_base

SPEC = TaskSpec("sequence-classification", ("bad", "good"), max_length=16)
NONE = "sha256:" + "0" * 64


def test_a_task_holds_its_bits_and_its_head(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    bundle = random_bundle(base, SPEC)
    task = load_task(bundle, base)
    (member,) = task.members
    of_base = [layer for layer in bundle.members[0].info.layers if layer.name != "classifier"]
    assert member.masks.layers.keys() == {layer.name for layer in of_base}
    assert task.masks_nbytes == sum(layer.rows * layer.columns // 8 for layer in of_base)
    assert task.head_nbytes == (2 * 32 + 2) * 4


@pytest.mark.parametrize("pooler", [True, False])
def test_the_heads_own_masks_are_applied_once(pooler: bool, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, pooler=pooler))
    bundle = random_bundle(base, SPEC)
    head = load_task(bundle, base).members[0].head
    columns = {layer.name: layer.columns for layer in bundle.members[0].info.layers}
    assert ("pooler.dense.weight" in head) != pooler
    for name, tensor in head.items():
        layer, _, kind = name.rpartition(".")
        bits = unpack_bits(bundle.members[0].masks[layer], columns[layer]) if kind == "weight" else True
        np.testing.assert_array_equal(tensor.numpy(), np.where(bits, bundle.members[0].head[name], 0))


def test_a_mask_of_another_base_is_refused_with_both_names(tiny_bert: str, tmp_path: Path) -> None:
    other = load_base(tiny_base(tmp_path / "other-base", seed=5))
    bundle = random_bundle(other, SPEC, task="sentiment")
    with pytest.raises(BaseMismatchError, match=r"'sentiment'.*'other-base'.*'tiny-bert'"):
        load_task(bundle, load_base(tiny_bert))


@pytest.mark.parametrize("part", ["tokenizer", "configuration"])
def test_a_mask_of_the_same_weights_with_another_part_is_refused(tiny_bert: str, part: str) -> None:
    base = load_base(tiny_bert)
    info = base.info.model_copy(update={"name": "cased", part: "sha256:" + "0" * 64})
    bundle = random_bundle(dataclasses.replace(base, info=info), SPEC)
    message = rf"learned on base 'cased', not on base 'tiny-bert', which differs in {part} \({part} sha256:0+"
    with pytest.raises(BaseMismatchError, match=message):
        load_task(bundle, base)


def test_a_bundle_that_knows_the_weights_alone_is_loaded_and_told(
    tiny_bert: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = load_base(tiny_bert)
    assert load_task(random_bundle(base, SPEC), base).base_checked == (
        "weights",
        "tokenizer",
        "configuration",
    )
    assert not caplog.messages
    info = base.info.model_copy(update={"tokenizer": None, "configuration": None})
    task = load_task(random_bundle(dataclasses.replace(base, info=info), SPEC, task="old"), base)
    assert task.base_checked == ("weights",)
    (line,) = caplog.messages
    assert line.startswith("task old: ")
    assert "no digest of a base's tokenizer and configuration" in line


def test_a_bundle_that_names_the_base_but_does_not_fit_it_is_refused(tiny_bert: str, tmp_path: Path) -> None:
    deeper = load_base(tiny_base(tmp_path / "deeper", blocks=4, seed=5))
    base = load_base(tiny_bert)
    forged = dataclasses.replace(deeper, info=base.info)
    with pytest.raises(UnknownLayerError, match=r"layer\.3.*maskable"):
        load_task(random_bundle(forged, SPEC), base)


@pytest.mark.parametrize(
    ("spec", "shortest"),
    [
        (TaskSpec("sequence-classification", ("bad", "good"), max_length=2), 3),
        (TaskSpec("sequence-classification", ("bad", "good"), max_length=1), 3),
        (TaskSpec("token-classification", ("O", "B"), max_length=2), 3),
        (TaskSpec("sequence-classification", ("bad", "good"), max_length=4, pair=True), 5),
        (TaskSpec("multiple-choice", (), max_length=4), 5),
    ],
)
def test_a_task_whose_rows_hold_no_text_is_refused(tiny_bert: str, spec: TaskSpec, shortest: int) -> None:
    base = load_base(tiny_bert)
    with pytest.raises(BaseMismatchError, match=f"up to {spec.max_length} tokens.* has {shortest} at least"):
        load_task(random_bundle(base, spec), base)
    load_task(random_bundle(base, dataclasses.replace(spec, max_length=shortest)), base)


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


@pytest.mark.parametrize(
    "change",
    [
        {
            "base": BaseInfo(
                name="x" * 10_000, revision=None, architecture="bert", fingerprint=NONE, parameters=1
            )
        },
        {"max_length": 1_000_000},
        {
            "layers": (
                LayerInfo(name="other", rows=1 << 13, columns=1 << 16, zeros=0, initial_zeros=0, flipped=0),
            )
        },
        {
            "layers": (
                LayerInfo(name="pooler.dense", rows=1 << 13, columns=8, zeros=0, initial_zeros=0, flipped=0),
            )
        },
        {"head": (HeadTensorInfo(name="classifier.weight", shape=(3, 4)),)},
    ],
    ids=["base", "tokens", "layer", "shape", "head"],
)
def test_what_does_not_fit_the_base_is_refused_before_a_mask_is_decoded(
    tiny_bert: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    base = load_base(tiny_bert)
    manifest = random_bundle(base, SPEC).manifest.model_copy(update=change)
    assert isinstance(manifest, TaskManifest)
    masks = {
        layer.name: np.full((layer.rows, layer.packed_bytes // layer.rows), 255, np.uint8)
        for layer in manifest.layers
    }
    layers = tuple(
        layer.model_copy(update={"zeros": 0, "initial_zeros": 0, "flipped": 0}) for layer in manifest.layers
    )
    manifest = manifest.model_copy(update={"layers": layers})
    head = {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in manifest.head}
    bundle = MaskBundle.create(manifest, masks, head)
    monkeypatch.setattr(tensors, "decode_rice", decode)
    with pytest.raises((BaseMismatchError, UnknownLayerError)) as caught:
        load_task(MaskBundle.from_bytes(bundle.to_bytes()), base)
    assert str(caught.value) == one_line(str(caught.value))
