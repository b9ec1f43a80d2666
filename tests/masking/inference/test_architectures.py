"""Every architecture: served answers are the trained model's, of single tasks and in mixed batches."""

import numpy as np
import pytest
import torch
from torch import Tensor

from masking import (
    Base,
    LoadedTask,
    MaskedEncoder,
    MaskedModel,
    MaskSettings,
    TaskBatch,
    load_base,
    load_task,
)
from masking.inference import ResidentWeights, packing
from masking.inference.packing import attend_by_row, attending, can_pack, pack_rows, pad_rows
from masking.kernels import Precision
from masking.tasks import Row, collate
from masking.tasks.predictions import Floats
from tests.masking.inference.test_encoder import SPECS, _features
from tests.masking.inference.test_precision import FAR
from tests.support.kernel_cases import LINES
from tests.support.models import ARCHITECTURES, LATER, random_bundle, tiny_base

PADDED = ("deberta", "deberta-v2", "mpnet", "roformer")
_SETTINGS = MaskSettings(blocks="0-", initial_sparsity=0.2)
_SPECS = list(SPECS.values())


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    """A tiny base of each architecture; nobody changes it."""
    folder = tmp_path_factory.mktemp("bases")
    return {name: load_base(tiny_base(folder / name, name)) for name in (*ARCHITECTURES, *LATER)}


def _tasks(base: Base, weights: ResidentWeights) -> list[LoadedTask]:
    return [
        load_task(random_bundle(base, spec, task=f"t{seed}", seed=seed, settings=_SETTINGS), base, weights)
        for seed, spec in enumerate(_SPECS)
    ]


def _trained(base: Base, number: int, batch: TaskBatch) -> list[Floats]:
    """Logits of each input alone, of the model whose mask was published as the batch's task."""
    model = MaskedModel.create(base, _SPECS[number], _SETTINGS, seed=number).eval()

    @torch.no_grad()
    def logits(row: Row) -> Floats:
        found: Tensor = model(collate([row], base.tokenizer, base.device))[0]
        return np.asarray(found)

    with model.cached():
        return [batch.task.codec.gather(item, [logits(row) for row in item.rows]) for item in batch.features]


@pytest.mark.parametrize("precision", ["off", *LINES])
@pytest.mark.parametrize("architecture", LATER)
def test_served_logits_are_those_of_the_trained_model(
    architecture: str, precision: Precision | str, bases: dict[str, Base]
) -> None:
    base, rng = bases[architecture], np.random.default_rng(0)
    weights = ResidentWeights(base.device) if precision == "off" else ResidentWeights.of(base, precision)
    batch = [TaskBatch(task, _features(task, 3, rng)) for task in _tasks(base, weights)]
    expected = [_trained(base, number, one) for number, one in enumerate(batch)]
    encoder = MaskedEncoder(base, weights)
    largest = max(float(np.abs(one).max()) for each in expected for one in each)
    for one, together, wanted in zip(batch, encoder.logits(batch), expected, strict=True):
        (alone,) = encoder.logits([one])
        for found in (together, alone):
            for ours, theirs in zip(found, wanted, strict=True):
                near = FAR.get(precision, 1e-5) * largest
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=near)


@pytest.mark.parametrize("architecture", LATER)
def test_packed_rows_are_computed_as_alone(architecture: str, bases: dict[str, Base]) -> None:
    base = bases[architecture]
    assert can_pack(base) == (architecture not in PADDED)
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
    bases: dict[str, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_near", lambda length, *_: torch.ones(length, length, dtype=torch.bool))
    assert can_pack(bases["nomic_bert"])
    assert not can_pack(bases["modernbert"])  # whose window is not kept now
