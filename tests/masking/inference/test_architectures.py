"""Architectures other than BERT's kin: served answers are the trained model's, alone and in mixed batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mask_store import MaskBundle
from masking import Base, Features, MaskedEncoder, MaskedModel, MaskSettings, TaskBatch, load_base, load_task
from masking.inference import ResidentWeights, packing
from masking.inference.packing import attend_by_row, attending, can_pack, pack_rows, pad_rows
from masking.kernels import Precision
from masking.tasks import Row, collate
from masking.tasks.predictions import Floats
from tests.masking.inference.test_encoder import SPECS, _features
from tests.masking.inference.test_precision import FAR
from tests.support.kernels.cases import LINES
from tests.support.models import LATER, random_bundle, tiny_base

LIKE_BERT = ("camembert", "data2vec-text", "ernie")  # by the very names of BERT's layers
PADDED = ("deberta", "deberta-v2", "roformer")
_SETTINGS = MaskSettings(blocks="0-", initial_sparsity=0.2)


@dataclass(frozen=True)
class Trained:
    """Tasks of all kinds on one base: masks, inputs, and the trained models' logits of each input alone."""

    base: Base
    bundles: Sequence[MaskBundle]
    features: Sequence[Sequence[Features]]
    expected: Sequence[Sequence[Floats]]


@pytest.fixture(scope="module", params=[name for name in LATER if name not in LIKE_BERT])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    base = load_base(tiny_base(tmp_path_factory.mktemp(request.param), request.param))
    bundles, features, expected = [], [], []
    for seed, spec in enumerate(SPECS.values()):
        model = MaskedModel.create(base, spec, _SETTINGS, seed=seed).eval()
        bundles.append(random_bundle(base, spec, task=f"t{seed}", seed=seed, settings=_SETTINGS))
        task = load_task(bundles[-1], base)
        features.append(_features(task, 3, np.random.default_rng(seed)))
        with model.cached(), torch.no_grad():
            logits = [
                [model(collate([row], base.tokenizer, base.device))[0].numpy() for row in item.rows]
                for item in features[-1]
            ]
        pairs = zip(features[-1], logits, strict=True)
        expected.append([task.codec.gather(item, rows) for item, rows in pairs])
    return Trained(base, bundles, features, expected)


@pytest.mark.parametrize("precision", ["off", *LINES])
def test_served_logits_are_those_of_the_trained_model(precision: Precision | str, trained: Trained) -> None:
    base = trained.base
    weights = ResidentWeights(base.device) if precision == "off" else ResidentWeights.of(base, precision)
    tasks = [load_task(bundle, base, weights) for bundle in trained.bundles]
    batch = [TaskBatch(task, own) for task, own in zip(tasks, trained.features, strict=True)]
    encoder = MaskedEncoder(base, weights)
    near = FAR.get(precision, 1e-5)
    largest = max(float(np.abs(one).max()) for each in trained.expected for one in each)
    for one, together, wanted in zip(batch, encoder.logits(batch), trained.expected, strict=True):
        (alone,) = encoder.logits([one])
        for found in (together, alone):
            for ours, theirs in zip(found, wanted, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=near * largest)


def test_packed_rows_are_computed_as_alone(trained: Trained) -> None:
    base = trained.base
    assert can_pack(base) == (base.info.architecture not in PADDED)
    if not can_pack(base):
        return
    rng = np.random.default_rng(0)
    rows = [Row.of(rng.integers(5, 40, length).tolist()) for length in (9, 4, 5, 33, 12, 12)]
    encoder, batch = base.share_encoder(), pack_rows(rows, base)
    attend_by_row(encoder)
    with torch.inference_mode(), attending(batch):
        packed = encoder(**batch.inputs).last_hidden_state[0]
    for row, start in zip(rows, batch.starts, strict=True):
        with torch.inference_mode():
            alone = base.encoder(**pad_rows([row], base).inputs).last_hidden_state[0]
        torch.testing.assert_close(packed[start : start + len(row.input_ids)], alone, rtol=1e-4, atol=1e-5)


def test_attention_that_is_not_understood_is_not_replaced(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = can_pack(trained.base)
    monkeypatch.setattr(packing, "_near", lambda length, *_: torch.ones(length, length, dtype=torch.bool))
    windows = trained.base.info.architecture == "modernbert"
    assert can_pack(trained.base) == (before and not windows)
