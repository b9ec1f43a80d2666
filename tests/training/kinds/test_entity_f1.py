import pytest

from training.kinds.entity_f1 import entity_f1, entity_spans


def test_spans_end_where_another_entity_or_o_begins() -> None:
    tags = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-LOC"]
    assert entity_spans(tags) == {("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 6)}


def test_an_inside_tag_of_another_type_begins_an_entity() -> None:
    assert entity_spans(["I-PER", "I-PER", "I-LOC", "O", "I-LOC"]) == {
        ("PER", 0, 2),
        ("LOC", 2, 3),
        ("LOC", 4, 5),
    }


def test_a_type_may_have_dashes() -> None:
    assert entity_spans(["B-X-Y", "I-X-Y", "I-X"]) == {("X-Y", 0, 2), ("X", 2, 3)}


# The numbers of seqeval 1.2.2: the first two are published in its README, the others are computed by its
# `f1_score(truth, predicted, average="micro", zero_division=0)`.
SEQEVAL = [
    (
        "O O O B-MISC I-MISC I-MISC O / B-PER I-PER O",
        "O O B-MISC I-MISC I-MISC I-MISC O / B-PER I-PER O",
        0.5,
    ),
    ("B-NP I-NP O", "I-NP I-NP O", 1.0),
    ("B-PER I-PER O B-LOC / B-LOC O", "B-PER O O B-LOC / B-LOC I-LOC", 1 / 3),
    ("B-PER I-PER I-PER / O B-LOC I-LOC", "B-PER B-PER I-PER / O B-LOC I-PER", 0.0),
    ("B-PER O B-LOC I-LOC / O O", "B-PER O B-LOC I-LOC / B-PER O", 0.8),
    ("O / O", "O / O", 0.0),
    ("B-PER", "O", 0.0),
]


@pytest.mark.parametrize(("truth", "predicted", "f1"), SEQEVAL)
def test_scores_are_those_of_seqeval(truth: str, predicted: str, f1: float) -> None:
    assert entity_f1(_sentences(truth), _sentences(predicted)) == pytest.approx(f1, abs=1e-15)


def test_entities_do_not_join_across_sentences() -> None:
    assert entity_f1([["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]]) == 1.0


def test_as_many_sentences_are_predicted() -> None:
    with pytest.raises(ValueError, match="zip"):
        entity_f1([["O"]], [])


def _sentences(text: str) -> list[list[str]]:
    return [sentence.split() for sentence in text.split(" / ")]
