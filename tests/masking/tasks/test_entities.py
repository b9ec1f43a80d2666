import numpy as np
import pytest

from masking import Entity, WordsPrediction, entities_of, group_entities, split_words

TEXT = "Anna Smith left New York."


def test_words_keep_their_place_in_the_text() -> None:
    words = split_words(TEXT)
    assert [word.text for word in words] == ["Anna", "Smith", "left", "New", "York", "."]
    assert all(TEXT[word.start : word.end] == word.text for word in words)
    assert split_words(" \n") == ()


def _group(*labels: str) -> list[tuple[str, str]]:
    entities = group_entities(split_words(TEXT), labels, [0.5] * len(labels))
    return [(entity.label, TEXT[entity.start : entity.end]) for entity in entities]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            ("B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"),
            [("PER", "Anna Smith"), ("O", "left"), ("LOC", "New York"), ("O", ".")],
        ),
        (
            ("B-PER", "B-PER", "O", "I-LOC", "I-ORG", "O"),
            [("PER", "Anna"), ("PER", "Smith"), ("O", "left"), ("LOC", "New"), ("ORG", "York"), ("O", ".")],
        ),
        (
            ("NNP", "NNP", "VBD", "NNP", "NNP", "."),
            [("NNP", "Anna Smith"), ("VBD", "left"), ("NNP", "New York"), (".", ".")],
        ),
    ],
)
def test_neighbours_of_one_label_become_an_entity(
    labels: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    assert _group(*labels) == expected


def test_tags_that_only_look_prefixed_are_whole_labels() -> None:
    assert [label for label, _ in _group("X-PER", "B-", "-LRB-", "I", "B", "O")] == [
        "X-PER", "B-", "-LRB-", "I", "B", "O",
    ]  # fmt: skip


def test_the_score_is_the_mean_over_words() -> None:
    words = split_words("New York")
    assert group_entities(words, ("B-LOC", "I-LOC"), (0.5, 1.0)) == [Entity("LOC", 0.75, 0, 8)]


def test_entities_of_a_prediction_have_text_and_place() -> None:
    logits = np.array([[0, 1], [0, 1], [1, 0], [0, 1], [0, 1], [1, 0]], np.float32)
    labels, indices = ("B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"), (1, 1, 0, 1, 1, 0)
    prediction = WordsPrediction(labels, indices, logits, logits * 0.75)
    assert prediction.label_scores == [0.75] * 6
    anna = {"entity_group": "PER", "score": 0.75, "word": "Anna Smith", "start": 0, "end": 10}
    york = {"entity_group": "LOC", "score": 0.75, "word": "New York", "start": 16, "end": 24}
    assert entities_of(TEXT, split_words(TEXT), prediction) == [anna, york]
    assert entities_of(TEXT, split_words(TEXT), prediction, ("O", "PER")) == [york]
