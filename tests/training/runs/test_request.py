import json
from collections.abc import Sequence

import pytest

from masking import (
    Base,
    ChoiceInput,
    TaskCodec,
    TaskInput,
    TaskSpec,
    TextInput,
    WordsInput,
    load_base,
    task_codec,
)
from training.data.examples import Example
from training.data.features import EncodedExample
from training.runs.request import LONGEST_BODY, request_body, sample_input


@pytest.fixture(scope="module")
def base(tiny_bert: str) -> Base:
    return load_base(tiny_bert)


def _encoded(codec: TaskCodec, *inputs: TaskInput) -> Sequence[EncodedExample]:
    features = codec.encode(inputs, truncate=True)
    return [
        EncodedExample(Example(1, one, "x"), own, (0,)) for one, own in zip(inputs, features, strict=True)
    ]


LONG = "the movie was great " * 60
SPECS = {
    "text": TaskSpec("sequence-classification", ("a", "b"), max_length=16),
    "pair": TaskSpec("sequence-classification", ("a", "b"), max_length=16, pair=True),
    "words": TaskSpec("token-classification", ("a", "b"), max_length=16),
    "choices": TaskSpec("multiple-choice", (), max_length=16),
}


@pytest.mark.parametrize(
    ("kind", "long", "short"),
    [
        ("text", TextInput(LONG), TextInput("good film")),
        ("pair", TextInput(LONG, LONG), TextInput("good film", "bad film")),
        ("words", WordsInput(tuple(LONG.split())), WordsInput(("good", "film"))),
        ("choices", ChoiceInput(LONG, (LONG, LONG)), ChoiceInput("the film was", ("good", "bad"))),
    ],
)
def test_the_first_short_input_is_taken_or_else_the_first_is_cut_to_fit(
    base: Base, kind: str, long: TaskInput, short: TaskInput
) -> None:
    codec = task_codec(SPECS[kind], base.tokenizer)
    assert sample_input(_encoded(codec, long, short), codec) == short
    cut = sample_input(_encoded(codec, long, long), codec)
    codec.encode([cut], truncate=False)
    assert len(json.dumps(request_body(cut))) <= LONGEST_BODY
    assert "the movie" in " ".join(json.dumps(request_body(cut)).replace('", "', " ").split())


def test_a_text_without_spaces_is_cut_too(base: Base) -> None:
    codec = task_codec(SPECS["text"], base.tokenizer)
    cut = sample_input(_encoded(codec, TextInput("電影" * 500)), codec)
    codec.encode([cut], truncate=False)


@pytest.mark.parametrize(
    ("task_input", "body"),
    [
        (TextInput("a"), {"inputs": "a"}),
        (TextInput("a", "b"), {"inputs": ["a", "b"]}),
        (WordsInput(("a", "b")), {"tokens": ["a", "b"]}),
        (ChoiceInput("c", ("a", "b")), {"context": "c", "choices": ["a", "b"]}),
    ],
)
def test_requests_have_the_shape_of_their_kind(task_input: TaskInput, body: dict[str, object]) -> None:
    assert request_body(task_input) == body
