import numpy as np
import pytest

from masking import (
    ClassPrediction,
    EmptyInputError,
    InputTooLongError,
    TaskCodec,
    TaskInput,
    TaskInputError,
    TaskSpec,
    TextInput,
    Tokenizer,
    WordsInput,
    load_base,
    task_codec,
)


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: str) -> Tokenizer:
    return load_base(tiny_bert).tokenizer


def _codec(tokenizer: Tokenizer, *, pair: bool) -> TaskCodec:
    spec = TaskSpec("sequence-classification", ("bad", "good"), max_length=8, pair=pair)
    return task_codec(spec, tokenizer)


def test_a_text_is_one_row(tokenizer: Tokenizer) -> None:
    (features,) = _codec(tokenizer, pair=False).encode([TextInput("the movie")], truncate=False)
    words = tokenizer.convert_ids_to_tokens(list(features.rows[0].input_ids))
    assert words == ["[CLS]", "the", "movie", "[SEP]"]
    assert features.rows[0].token_type_ids.tolist() == [0, 0, 0, 0]
    assert features.tokens == 4


def test_a_pair_is_one_row_with_segments(tokenizer: Tokenizer) -> None:
    (features,) = _codec(tokenizer, pair=True).encode([TextInput("the", "a plot")], truncate=False)
    assert features.rows[0].token_type_ids.tolist() == [0, 0, 0, 1, 1, 1]


def test_too_long_is_refused_with_both_counts_unless_truncated(tokenizer: Tokenizer) -> None:
    codec = _codec(tokenizer, pair=False)
    inputs: list[TaskInput] = [TextInput("good"), TextInput("the " * 20)]
    with pytest.raises(InputTooLongError, match=r"22 tokens.*at most 8") as caught:
        codec.encode(inputs, truncate=False)
    assert (caught.value.index, caught.value.count, caught.value.limit) == (1, 22, 8)
    short, cut = codec.encode(inputs, truncate=True)
    assert not short.truncated
    assert cut.truncated
    assert len(cut.rows[0].input_ids) == 8


def test_truncation_cuts_the_longer_of_a_pair(tokenizer: Tokenizer) -> None:
    (features,) = _codec(tokenizer, pair=True).encode([TextInput("the " * 9, "plot")], truncate=True)
    words = tokenizer.convert_ids_to_tokens(list(features.rows[0].input_ids))
    assert words == ["[CLS]", "the", "the", "the", "the", "[SEP]", "plot", "[SEP]"]


@pytest.mark.parametrize(
    ("pair", "item", "said"),
    [
        (False, TextInput("a", "b"), "one text per input, but was given a pair"),
        (True, TextInput("a"), "a pair of texts per input, but was given one text"),
        (False, WordsInput(("a",)), "one text per input"),
        (True, WordsInput(("a",)), "a pair of texts per input"),
    ],
)
def test_inputs_of_another_kind(tokenizer: Tokenizer, pair: bool, item: TaskInput, said: str) -> None:
    with pytest.raises(TaskInputError, match=said):
        _codec(tokenizer, pair=pair).encode([item], truncate=False)


@pytest.mark.parametrize("item", [TextInput(""), TextInput(" \n")])
def test_empty_text(tokenizer: Tokenizer, item: TaskInput) -> None:
    with pytest.raises(EmptyInputError):
        _codec(tokenizer, pair=False).encode([item], truncate=True)


def test_decode_names_the_best_label(tokenizer: Tokenizer) -> None:
    prediction = _codec(tokenizer, pair=False).decode(np.array([1.0, 2.0], dtype=np.float32))
    assert isinstance(prediction, ClassPrediction)
    assert (prediction.label, prediction.index) == ("good", 1)
    np.testing.assert_allclose(prediction.scores, [1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-6)


def test_no_inputs_no_features(tokenizer: Tokenizer) -> None:
    assert _codec(tokenizer, pair=False).encode([], truncate=True) == []
