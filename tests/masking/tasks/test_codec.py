import pytest

from masking import Base, TaskInput, TaskSpec, TextInput, WordsInput, load_base
from masking.tasks import task_codec
from masking.tasks.codec import TaskCodec

TEXT = TaskSpec("sequence-classification", ("a", "b"), max_length=16)
INPUTS = {False: TextInput("the movie was good"), True: TextInput("the movie", "was good")}


@pytest.fixture(scope="module")
def base(tiny_bert: str) -> Base:
    return load_base(tiny_bert)


def _input(codec: TaskCodec) -> TaskInput:
    if codec.spec.kind == "token-classification":
        return WordsInput(("the", "acting", "was", "good"))
    return INPUTS[codec.spec.pair]


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (TaskSpec("sequence-classification", ("x", "y", "z"), max_length=16), True),
        (TaskSpec("multi-label-classification", ("a", "b"), max_length=16), True),
        (TaskSpec("regression", ("a",), max_length=16), True),
        (TaskSpec("sequence-classification", ("a", "b"), max_length=12), False),
        (TaskSpec("sequence-classification", ("a", "b"), max_length=16, pair=True), False),
        (TaskSpec("token-classification", ("a", "b"), max_length=16), False),
    ],
)
def test_codecs_that_encode_alike_say_so(base: Base, other: TaskSpec, alike: bool) -> None:
    one, another = (task_codec(spec, base.tokenizer) for spec in (TEXT, other))
    assert (one.encoding == another.encoding) == alike
    if alike:
        inputs = [_input(one)]
        assert one.encode(inputs, truncate=False) == another.encode(inputs, truncate=False)


def test_where_a_word_is_read_is_part_of_its_encoding(base: Base) -> None:
    last, first = (
        task_codec(
            TaskSpec("token-classification", ("a", "b"), max_length=16, word_piece=piece), base.tokenizer
        )
        for piece in ("last", "first")
    )
    assert last.encoding != first.encoding
