from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking import (
    EmptyInputError,
    TaskCodec,
    TaskInputError,
    TaskSpec,
    TextInput,
    WordsInput,
    WordsPrediction,
    load_base,
    task_codec,
)
from masking.tasks.token_classification import WordsCodec, plan_windows, read_positions


@pytest.fixture(scope="module")
def codec(tiny_bert: str) -> TaskCodec:
    spec = TaskSpec("token-classification", ("LOC", "O"), max_length=10)
    return task_codec(spec, load_base(tiny_bert).tokenizer)


def test_labels_are_read_at_the_last_wordpiece(codec: TaskCodec) -> None:
    (features,) = codec.encode([WordsInput(("the", "xyz", "plot"))], truncate=False)
    assert len(features.rows) == 1
    assert len(features.rows[0].input_ids) == 7  # [CLS] the x ##y ##z plot [SEP]
    assert features.positions == ((0, 1), (0, 4), (0, 5))
    logits = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.testing.assert_array_equal(codec.gather(features, [logits]), logits[[1, 4, 5]])


def test_words_that_tokenise_to_nothing_still_get_a_label(codec: TaskCodec) -> None:
    (features,) = codec.encode([WordsInput(("", "\u200b", "plot"))], truncate=False)
    assert len(features.positions) == 3
    unknown = codec.encode([WordsInput(("☃", "☃", "plot"))], truncate=False)[0]
    assert features.rows == unknown.rows


def test_a_long_sentence_becomes_windows_and_every_word_is_read_once(codec: TaskCodec) -> None:
    words = ("paris", "the", "xyz") * 8
    (features,) = codec.encode([WordsInput(words)], truncate=False)
    assert len(features.rows) > 2
    assert all(len(row.input_ids) <= 10 for row in features.rows)
    assert len(features.positions) == len(set(features.positions)) == len(words)
    alone = codec.encode([WordsInput((word,)) for word in ("paris", "the", "xyz")], truncate=False)
    last_piece = [item.rows[0].input_ids[-2] for item in alone]
    read = [features.rows[row].input_ids[token] for row, token in features.positions]
    assert read == last_piece * 8


def test_a_word_longer_than_a_window_keeps_its_last_pieces(codec: TaskCodec) -> None:
    (features,) = codec.encode([WordsInput(("the", "x" * 30, "plot"))], truncate=False)
    assert features.truncated
    assert all(len(row.input_ids) <= 10 for row in features.rows)
    assert len(features.positions) == 3


def test_a_cut_sentence_is_its_first_row_and_the_words_that_end_in_it(codec: TaskCodec) -> None:
    assert isinstance(codec, WordsCodec)
    short, long = codec.encode_cut([WordsInput(("the", "plot")), WordsInput(("the",) * 7 + ("xyz", "plot"))])
    assert short == codec.encode([WordsInput(("the", "plot"))], truncate=False)[0]
    assert long.truncated
    assert long.positions == tuple((0, token) for token in range(1, 8))
    (row,) = long.rows
    (whole,) = codec.encode([WordsInput(("xyz",))], truncate=False)
    assert len(row.input_ids) == 10
    assert row.input_ids[8] == whole.rows[0].input_ids[1]  # the first piece of the word that is cut
    with pytest.raises(EmptyInputError):
        codec.encode_cut([WordsInput(())])


def test_decode_gives_one_label_a_word(codec: TaskCodec) -> None:
    prediction = codec.decode(np.array([[0.0, 2.0], [3.0, 1.0]], dtype=np.float32))
    assert isinstance(prediction, WordsPrediction)
    assert prediction.labels == ("O", "LOC")
    assert prediction.indices == (1, 0)
    np.testing.assert_allclose(prediction.scores.sum(axis=1), 1.0, rtol=1e-6)


def test_inputs_of_another_kind_are_refused_with_their_index(codec: TaskCodec) -> None:
    with pytest.raises(TaskInputError, match="list of words") as caught:
        codec.encode([WordsInput(("a",)), TextInput("a text")], truncate=False)
    assert caught.value.index == 1
    with pytest.raises(EmptyInputError, match="no words"):
        codec.encode([WordsInput(())], truncate=False)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60), st.integers(12, 30))
def test_windows_cover_every_word_within_capacity(lengths: list[int], capacity: int) -> None:
    windows = plan_windows(lengths, capacity)
    assert windows[0][0] == 0
    assert windows[-1][1] == len(lengths)
    assert all(sum(lengths[start:end]) <= capacity for start, end in windows)
    assert all(one[0] < two[0] <= one[1] for one, two in pairwise(windows))
    positions = read_positions(lengths, windows)
    assert len(positions) == len(lengths)
    for word, (window, token) in enumerate(positions):
        start, end = windows[window]
        assert start <= word < end
        assert token == sum(lengths[start : word + 1])


def test_a_copy_is_read_at_the_first_wordpiece(tiny_bert: str) -> None:
    spec = TaskSpec("token-classification", ("LOC", "O"), max_length=10, word_piece="first")
    first = task_codec(spec, load_base(tiny_bert).tokenizer)
    (features,) = first.encode([WordsInput(("the", "xyz", "plot"))], truncate=False)
    assert features.positions == ((0, 1), (0, 2), (0, 5))
    (long,) = first.encode([WordsInput(("the", "y" + "x" * 30, "plot"))], truncate=False)
    (short,) = first.encode([WordsInput(("y",))], truncate=False)
    row, token = long.positions[1]
    assert long.truncated
    assert long.rows[row].input_ids[token] == short.rows[0].input_ids[1]
