"""Embeddings are computed in the batches of all tasks, with masks, with signs and with the bare base."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mask_store import Pooling
from masking import (
    Base,
    MaskedEncoder,
    MaskedModel,
    MaskSettings,
    TaskBatch,
    TaskInput,
    TaskSpec,
    TextInput,
    WordsInput,
    collate,
    load_base,
    load_task,
)
from masking.inference import ResidentWeights
from masking.kernels import Precision
from tests.masking.inference.test_encoder import SPECS
from tests.support.kernels.cases import LINES
from tests.support.models import ARCHITECTURES, finetuned, random_bundle, sign_bundle, tiny_base

TEXTS: list[TaskInput] = [
    TextInput("the movie was good"),
    TextInput("bad"),
    TextInput("a bad film", "it was terrible"),
]
FAR = {"fp32": 1e-5, "bf16": 0.02, "int8": 0.05}


def spec_of(pooling: Pooling) -> TaskSpec:
    return TaskSpec("embedding", (), max_length=32, pooling=pooling)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_served_embeddings_are_those_that_are_learned(
    tmp_path: Path, architecture: str, pooling: Pooling
) -> None:
    base = load_base(tiny_base(tmp_path / "base", architecture))
    settings = MaskSettings(initial_sparsity=0.2)
    task = load_task(random_bundle(base, spec_of(pooling), settings=settings), base)
    model = MaskedModel.create(base, spec_of(pooling), settings, seed=0).eval()
    features = task.codec.encode(TEXTS, truncate=False)
    rows = [row for item in features for row in item.rows]
    with torch.no_grad():
        expected = model(collate(rows, base.tokenizer, base.device)).numpy()
    found = MaskedEncoder(base).logits([TaskBatch(task, features)])[0]
    assert [one.shape for one in found] == [(32,), (32,), (2, 32)]
    np.testing.assert_allclose(np.vstack(found), expected, atol=1e-5)
    assert task.head_nbytes == 0
    assert task.spec.width == 32


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_is_no_token(tmp_path: Path, pooling: Pooling) -> None:
    base = load_base(tiny_base(tmp_path / "base", "mpnet"))  # padded, as its attention can't be replaced
    task = load_task(random_bundle(base, spec_of(pooling)), base)
    features = task.codec.encode(TEXTS[:2], truncate=False)
    together = MaskedEncoder(base).logits([TaskBatch(task, features)])[0]
    for item, expected in zip(features, together, strict=True):
        ((alone,),) = MaskedEncoder(base).logits([TaskBatch(task, [item])])
        np.testing.assert_allclose(alone, expected, atol=1e-6)


@pytest.mark.parametrize("precision", LINES)
def test_all_kinds_share_a_batch_in_each_precision(precision: Precision, tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base"))
    (tmp_path / "same").mkdir()
    bundles = [
        random_bundle(base, SPECS["words"]),
        random_bundle(base, spec_of("mean"), seed=1),
        sign_bundle(base, finetuned(folder, tmp_path / "signs", "embedding"), pooling="cls"),
        sign_bundle(base, folder, pooling="mean"),
        random_bundle(base, SPECS["text"], seed=2),
    ]
    weights = ResidentWeights.of(base, precision)
    tasks = [load_task(bundle, base, weights) for bundle in bundles]
    given: list[list[TaskInput]] = [[WordsInput(("anna", "works"))], TEXTS, TEXTS, TEXTS, TEXTS[:2]]
    batch = [
        TaskBatch(task, task.codec.encode(inputs, truncate=False))
        for task, inputs in zip(tasks, given, strict=True)
    ]
    together = MaskedEncoder(base, weights).logits(batch)
    for one, bundle, found in zip(batch, bundles, together, strict=True):
        alone = MaskedEncoder(base).logits([TaskBatch(load_task(bundle, base), one.features)])[0]
        for mine, wanted in zip(found, alone, strict=True):
            assert np.abs(mine - wanted).max() <= FAR[precision] * np.abs(wanted).max()


def test_the_bare_base_is_a_task_without_bits(tiny_bert: str, base: Base) -> None:
    task = load_task(sign_bundle(base, tiny_bert, pooling="mean"), base)
    assert (task.nbytes, task.manifest.mask_bits) == (0, 0)
    features = task.codec.encode(TEXTS[:2], truncate=False)
    found = MaskedEncoder(base).logits([TaskBatch(task, features)])[0]
    batch = collate([item.rows[0] for item in features], base.tokenizer, base.device)
    with torch.no_grad():
        hidden = base.encoder(**batch).last_hidden_state
    expected = [hidden[place, : len(item.rows[0].input_ids)].mean(0) for place, item in enumerate(features)]
    np.testing.assert_allclose(np.stack(found), torch.stack(expected).numpy(), atol=1e-5)
