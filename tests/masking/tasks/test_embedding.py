import numpy as np
import pytest

from masking import Base, EmbeddingPrediction, TaskInputError, TaskSpec, TextInput, WordsInput, task_codec
from masking.tasks.predictions import normalise

SPEC = TaskSpec("embedding", (), max_length=12, pooling="mean")
VECTORS = np.array([[3.0, 4.0], [0.0, -2.0]], np.float32)


def test_each_text_is_a_row_of_its_own(base: Base) -> None:
    codec = task_codec(SPEC, base.tokenizer)
    given = [TextInput("the movie"), TextInput("the movie", "it was good"), TextInput("it was good")]
    one, both, other = codec.encode(given, truncate=False)
    assert both.rows == (*one.rows, *other.rows)
    assert (one.truncated, both.truncated) == (False, False)


def test_a_long_text_of_a_pair_is_cut(base: Base) -> None:
    codec = task_codec(SPEC, base.tokenizer)
    (found,) = codec.encode([TextInput("good " * 20, "bad")], truncate=True)
    assert [len(row.input_ids) for row in found.rows] == [12, 3]
    assert found.truncated
    with pytest.raises(TaskInputError, match="takes at most 12"):
        codec.encode([TextInput("bad", "good " * 20)], truncate=False)


@pytest.mark.parametrize("given", [TextInput(" "), TextInput("a", ""), WordsInput(("a",))])
def test_what_is_no_text_is_refused(base: Base, given: TextInput) -> None:
    with pytest.raises(TaskInputError) as caught:
        task_codec(SPEC, base.tokenizer).encode([TextInput("a"), given], truncate=True)
    assert caught.value.index == 1


def test_embeddings_have_length_one(base: Base) -> None:
    codec = task_codec(SPEC, base.tokenizer)
    (item,) = codec.encode([TextInput("a", "b")], truncate=False)
    found = codec.decode(codec.gather(item, list(VECTORS)))
    assert isinstance(found, EmbeddingPrediction)
    assert found.logits.tolist() == VECTORS.tolist()
    assert found.scores == pytest.approx(np.array([[0.6, 0.8], [0.0, -1.0]]))
    assert found.similarity == pytest.approx(-0.8)


def test_a_vector_of_zeros_stays_one() -> None:
    assert normalise(np.zeros(3, np.float32)).tolist() == [0.0, 0.0, 0.0]
