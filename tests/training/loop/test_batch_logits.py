import numpy as np
import torch
from torch import Tensor

from masking import Features, Row, TaskSpec, TextInput, WordsInput, load_base, task_codec
from training.loop.batch_logits import batch_logits, token_batches


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
