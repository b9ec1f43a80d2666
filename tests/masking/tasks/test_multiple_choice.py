import numpy as np
import pytest

from masking import (
    ChoiceInput,
    ClassPrediction,
    EmptyInputError,
    InputTooLongError,
    TaskCodec,
    TaskInput,
    TaskInputError,
    TaskSpec,
    TextInput,
    load_base,
    task_codec,
)


@pytest.fixture(scope="module")
def codec(tiny_bert: str) -> TaskCodec:
    return task_codec(TaskSpec("multiple-choice", (), max_length=12), load_base(tiny_bert).tokenizer)


def test_each_choice_is_a_row_with_the_context(codec: TaskCodec) -> None:
    inputs = [ChoiceInput("she", ("lost", "was good")), ChoiceInput("i", ("a", "b", "c"))]
    first, second = codec.encode(inputs, truncate=False)
    assert [len(row.input_ids) for row in first.rows] == [5, 6]
    assert len(second.rows) == 3


def test_gather_and_decode_over_any_number_of_choices(codec: TaskCodec) -> None:
    (features,) = codec.encode([ChoiceInput("i", ("a", "b", "c"))], truncate=False)
    logits = codec.gather(features, [np.array([x], dtype=np.float32) for x in (0.5, 3.0, -1.0)])
    prediction = codec.decode(logits)
    assert isinstance(prediction, ClassPrediction)
    assert (prediction.label, prediction.index) == ("1", 1)
    assert prediction.scores.shape == (3,)


def test_a_long_choice_names_its_input(codec: TaskCodec) -> None:
    inputs = [ChoiceInput("i", ("a", "b")), ChoiceInput("i", ("a", "the " * 30))]
    with pytest.raises(InputTooLongError) as caught:
        codec.encode(inputs, truncate=False)
    assert caught.value.index == 1
    assert [item.truncated for item in codec.encode(inputs, truncate=True)] == [False, True]


@pytest.mark.parametrize(
    ("item", "error", "said"),
    [
        (ChoiceInput("a", ("b",)), TaskInputError, "at least 2 choices"),
        (ChoiceInput(" ", ("b", "c")), EmptyInputError, "empty"),
        (ChoiceInput("a", ("b", "")), EmptyInputError, "empty"),
        (TextInput("a"), TaskInputError, "context and choices"),
    ],
)
def test_unusable_inputs(codec: TaskCodec, item: TaskInput, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        codec.encode([item], truncate=True)
