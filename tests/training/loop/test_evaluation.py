from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mask_store import WITHOUT_CLASSES, TaskKind
from masking import (
    Features,
    MaskedEncoder,
    MaskedModel,
    Row,
    TaskBatch,
    TaskSpec,
    TextInput,
    WordsInput,
    WordsPrediction,
    load_base,
    load_task,
    task_codec,
)
from tests.support.learning_data import ROWS, tiny_options
from training.data.features import EncodedExample
from training.loop.evaluation import batch_logits, evaluate, measure, predict, token_batches
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
        task="demo", metric=next(iter(measured)), metrics=measured, training={}, data_digest="", seed=0
    )
    task = load_task(bundle, ready.base)
    served = MaskedEncoder(ready.base).logits([TaskBatch(task, [i.features for i in ready.encoded.dev])])[0]
    answers = [ready.codec.decode(logits) for logits in served]
    assert measure(ready.codec, ready.encoded.dev, answers) == pytest.approx(measured, abs=1e-4)
    if kind not in WITHOUT_CLASSES:
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


def test_each_input_gets_its_own_rows_back_without_padding(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    codec = task_codec(TaskSpec("token-classification", ("x", "y"), max_length=8), base.tokenizer)
    features = codec.encode([WordsInput(("the",) * 9), WordsInput(("a", "plot"))], truncate=False)
    assert len(features[0].rows) > 1

    def forward(batch: dict[str, Tensor]) -> Tensor:
        ids = batch["input_ids"].float()
        return torch.stack([ids, batch["attention_mask"].float()], dim=-1)

    results = batch_logits(forward, codec, features, tokenizer=base.tokenizer, device=torch.device("cpu"))
    the, a, plot = (base.tokenizer.convert_tokens_to_ids(w) for w in ("the", "a", "plot"))
    np.testing.assert_array_equal(results[0], np.array([[the, 1]] * 9, dtype=np.float32))
    np.testing.assert_array_equal(results[1], np.array([[a, 1], [plot, 1]], dtype=np.float32))


def test_results_do_not_depend_on_the_company(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    codec = task_codec(TaskSpec("sequence-classification", ("x", "y"), max_length=16), base.tokenizer)
    texts = [TextInput("a"), TextInput("the movie was not good at all"), TextInput("great !")]
    features = codec.encode(texts, truncate=False)

    def run(some: list[Features]) -> list[float]:
        out = batch_logits(
            lambda batch: base.encoder(**batch).last_hidden_state[:, 0, :2],
            codec,
            some,
            tokenizer=base.tokenizer,
            device=base.device,
        )
        return [float(x) for logits in out for x in logits]

    alone = [x for item in features for x in run([item])]
    np.testing.assert_allclose(run(features), alone, rtol=1e-4, atol=1e-5)


def _features(*row_lengths: int) -> Features:
    return Features(tuple(Row.of((1,) * length) for length in row_lengths))


def test_batches_hold_every_input_once_sorted_by_length() -> None:
    features = [_features(3), _features(9, 2), _features(5), _features(1, 1, 1, 1), _features(7)]
    batches = token_batches(features, max_rows=3)
    assert batches == [[1, 4], [2, 0], [3]]
    assert token_batches([], max_rows=3) == []
