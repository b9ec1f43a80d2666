import pytest

from masking import tag_scheme
from training.kinds.entity_f1 import entity_f1

SCHEME = tag_scheme(("O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in ("PER", "LOC", "MISC", "NP"))))


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
    assert entity_f1(_sentences(truth), _sentences(predicted), SCHEME) == pytest.approx(f1, abs=1e-15)


def test_entities_do_not_join_across_sentences() -> None:
    assert entity_f1([["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]], SCHEME) == 1.0


def test_as_many_sentences_are_predicted() -> None:
    with pytest.raises(ValueError, match="zip"):
        entity_f1([["O"]], [], SCHEME)


def _sentences(text: str) -> list[list[str]]:
    return [sentence.split() for sentence in text.split(" / ")]
