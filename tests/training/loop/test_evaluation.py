from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mask_store import TaskKind
from masking import MaskedEncoder, MaskedModel, TaskBatch, WordsPrediction, load_task
from tests.support.learning_data import ROWS, tiny_options
from training.data.features import EncodedExample
from training.loop.evaluation import evaluate, predict
from training.runs.preparation import Preparation, prepare


def _ready(folder: Path, base: str, kind: TaskKind) -> tuple[Preparation, MaskedModel]:
    ready = prepare(tiny_options(folder, base, kind))
    return ready, MaskedModel.create(ready.base, ready.spec, ready.options, seed=0)


@pytest.mark.parametrize("kind", list(ROWS))
def test_predictions_come_in_the_order_of_the_examples_whatever_the_batches(
    tmp_path: Path, tiny_bert: str, kind: TaskKind
) -> None:
    ready, model = _ready(tmp_path, tiny_bert, kind)
    together = predict(model, ready.codec, ready.encoded.dev, max_rows=64)
    alone = [predict(model, ready.codec, [item], max_rows=1)[0] for item in ready.encoded.dev]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)
        assert isinstance(one, WordsPrediction) == (kind == "token-classification")


@pytest.mark.parametrize("kind", list(ROWS))
def test_serving_predicts_what_was_measured(tmp_path: Path, tiny_bert: str, kind: TaskKind) -> None:
    ready, model = _ready(tmp_path, tiny_bert, kind)
    measured = evaluate(model, ready.codec, ready.encoded.dev, max_rows=8)
    bundle = model.to_bundle(
        task="demo", metric="accuracy", metrics=measured, training={}, data_digest="", seed=0
    )
    task = load_task(bundle, ready.base)
    served = MaskedEncoder(ready.base).logits([TaskBatch(task, [i.features for i in ready.encoded.dev])])[0]
    answers = [ready.codec.decode(logits) for logits in served]
    assert measured["accuracy"] == pytest.approx(_accuracy(ready.encoded.dev, answers))


def _accuracy(examples: Sequence[EncodedExample], answers: Sequence[object]) -> float:
    right: list[bool] = []
    for item, answer in zip(examples, answers, strict=True):
        indices = getattr(answer, "indices", None) or (getattr(answer, "index", None),)
        right += [a == b for a, b in zip(item.target, indices, strict=True)]
    return sum(right) / len(right)


def test_evaluation_draws_no_random_numbers(tmp_path: Path, tiny_bert: str) -> None:
    ready, model = _ready(tmp_path, tiny_bert, "sequence-classification")
    model.train()
    before = torch.get_rng_state()
    evaluate(model, ready.codec, ready.encoded.dev, max_rows=8)
    assert torch.equal(before, torch.get_rng_state())
    assert not model.training
