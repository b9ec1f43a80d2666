import numpy as np
import pytest

from masking import Entity, Span, WordsPrediction, entities_of, group_entities, split_words, tag_scheme

TEXT = "Anna Smith left New York."


def _group(*labels: str) -> list[tuple[str, str]]:
    entities = group_entities(split_words(TEXT), labels, [0.5] * len(labels), tag_scheme(labels))
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
    labels = ("B-LOC", "I-LOC")
    assert group_entities(words, labels, (0.5, 1.0), tag_scheme(labels)) == [Entity("LOC", 0.75, 0, 8)]


def test_entities_of_a_prediction_have_text_and_place() -> None:
    logits = np.array([[0, 1], [0, 1], [1, 0], [0, 1], [0, 1], [1, 0]], np.float32)
    labels, indices = ("B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"), (1, 1, 0, 1, 1, 0)
    prediction = WordsPrediction(labels, indices, logits, logits * 0.75)
    assert prediction.label_scores == [0.75] * 6
    anna = {"entity_group": "PER", "score": 0.75, "word": "Anna Smith", "start": 0, "end": 10}
    york = {"entity_group": "LOC", "score": 0.75, "word": "New York", "start": 16, "end": 24}
    assert entities_of(TEXT, split_words(TEXT), prediction, labels) == [anna, york]
    assert entities_of(TEXT, split_words(TEXT), prediction, labels, ("O", "PER")) == [york]


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ("O B-PER I-PER", "IOB"),
        ("O B-PER I-PER I-LOC", "IOB"),  # no sentence of train begins a LOC
        ("O I-PER I-LOC", "IOB"),
        ("B-NP I-NP B-VP", "IOB"),
        ("O B-PER I-PER E-PER S-PER", "IOBES"),
        ("O S-PER", "IOBES"),
        ("O B-PER I-PER L-PER U-PER", "BILOU"),
        ("O B-PER M-PER E-PER S-PER", "BMES"),
        ("o b-per i-per", "IOB"),
        ("O B_PER I_PER", "IOB"),
        ("O PER-B PER-I", "IOB"),
        ("NN VB O", ""),
        ("O PER LOC", ""),
        ("O B-PER X", ""),
        ("O B-PER L-PER S-PER", ""),
        ("O E-mail", ""),
        ("O", ""),
    ],
)
def test_the_scheme_is_found_from_all_labels(labels: str, name: str) -> None:
    assert tag_scheme(tuple(labels.split())).name == name


ONE_SENTENCE = [
    "B-PER I-PER I-PER O B-LOC B-LOC I-LOC",
    "B-PER I-PER E-PER O S-LOC B-LOC E-LOC",
    "B-PER I-PER L-PER O U-LOC B-LOC L-LOC",
    "B-PER M-PER E-PER O S-LOC B-LOC E-LOC",
    "b-PER i-PER i-PER o b-LOC b-LOC i-LOC",
    "B_PER I_PER I_PER O B_LOC B_LOC I_LOC",
    "PER-B PER-I PER-I O LOC-B LOC-B LOC-I",
    "I-PER I-PER I-PER O I-LOC B-LOC I-LOC",  # IOB1
]


@pytest.mark.parametrize("written", ONE_SENTENCE)
def test_every_scheme_marks_the_same_entities(written: str) -> None:
    tags = tuple(written.split())
    assert tag_scheme(tags).entities(tags) == {Span("PER", 0, 3), Span("LOC", 4, 5), Span("LOC", 5, 7)}


def test_an_end_ends_and_a_go_on_of_another_type_begins() -> None:
    tags = ("B-A", "E-A", "I-A", "I-B", "S-B", "I-B", "E-A", "B-X-Y", "I-X-Y")
    spans = [(span.label, span.start, span.end) for span in tag_scheme((*tags, "O")).spans(tags)]
    assert spans == [
        ("A", 0, 2), ("A", 2, 3), ("B", 3, 4), ("B", 4, 5), ("B", 5, 6), ("A", 6, 7), ("X-Y", 7, 9),
    ]  # fmt: skip


def test_a_lower_case_o_is_no_entity() -> None:
    labels, logits = ("b-per", "o"), np.array([[1, 0], [0, 1]], np.float32)
    prediction = WordsPrediction(labels, (0, 1), logits, logits)
    (entity,) = entities_of("Anna left", split_words("Anna left"), prediction, labels)
    assert entity["entity_group"] == "per"
    assert len(entities_of("Anna left", split_words("Anna left"), prediction, labels, ())) == 2
