from typing import Any

import pytest

from mask_store import TaskKind
from training.data.columns import choose_columns, describe_columns, unused_texts
from training.data.rows import Row, RowSet
from training.errors import ColumnError, NoExamplesError

SEQUENCE: TaskKind = "sequence-classification"


def _rows(*values: dict[str, Any], source: str = "train.jsonl") -> RowSet:
    return RowSet(source, "line", tuple(Row(number, row) for number, row in enumerate(values, start=1)))


def _named(*names: str) -> RowSet:
    return _rows(dict.fromkeys(names, "x"))


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        ("text label", "text label"),
        ("sentence text_pair label", "sentence text_pair label"),
        ("idx sentence1 sentence2 label", "sentence1 sentence2 label"),
        ("premise hypothesis label idx", "premise hypothesis label"),
        ("id question1 question2 label", "question1 question2 label"),
        ("question sentence label", "question sentence label"),
        ("query passage label", "query passage label"),
        ("text question sentence label", "text label"),
        ("Sentence1 Sentence2 Label", "Sentence1 Sentence2 Label"),
        ("content category", "content category"),
        ("text1 label text2", "text1 text2 label"),
    ],
)
def test_known_names_are_found_and_two_texts_are_a_pair(names: str, columns: str) -> None:
    chosen = choose_columns(SEQUENCE, {}, (_named(*names.split()),))
    assert list(chosen.values()) == columns.split()


@pytest.mark.parametrize(
    ("kind", "names", "columns"),
    [
        ("token-classification", "id tokens pos_tags ner_tags", "tokens ner_tags"),
        ("token-classification", "words labels", "words labels"),
        ("multiple-choice", "question choices answerKey", "question choices answerKey"),
        ("multiple-choice", "ctx endings label", "ctx endings label"),
        ("multiple-choice", "startphrase sent1 ending0 ending1 label", "startphrase ending label"),
        ("multiple-choice", "premise choice1 choice2 label", "premise choice label"),
        ("multiple-choice", "context question answerA answerB answerC label", "context answer label"),
        ("multiple-choice", "goal sol1 sol2 label", "goal sol label"),
    ],
)
def test_other_kinds_have_known_names_too(kind: TaskKind, names: str, columns: str) -> None:
    assert list(choose_columns(kind, {}, (_named(*names.split()),)).values()) == columns.split()


def test_named_columns_win() -> None:
    rows = _rows({"text": "a", "question": "b", "sentence": "c", "label": "x", "coarse": "y"})
    columns = choose_columns(SEQUENCE, {"text": "question", "pair": None, "label": "coarse"}, (rows, rows))
    assert columns == {"text": "question", "label": "coarse"}
    pair = choose_columns(SEQUENCE, {"pair": "sentence"}, (_named("question", "sentence", "label"),))
    assert pair == {"text": "question", "pair": "sentence", "label": "label"}


def test_the_columns_in_use_and_other_texts_are_told() -> None:
    row = {"id": "ab 1", "text": "good and bad", "title": "a great film", "label": "very good one"}
    rows = _rows(*[row] * 3)
    columns = choose_columns(SEQUENCE, {}, (rows,))
    assert describe_columns(columns) == "columns: --text-column text --label-column label"
    assert unused_texts(rows, columns) == ["title"]


def test_choices_in_columns_of_their_own_are_in_use() -> None:
    rows = _rows({"context": "c", "ending0": "one two three", "ending1": "four five six", "label": 0})
    assert unused_texts(rows, choose_columns("multiple-choice", {}, (rows,))) == []


@pytest.mark.parametrize(
    ("there", "typed"),
    [
        ("coarse_label", "coarse_label"),
        (" corse label", "' corse label'"),
        ("a;corse_label", "'a;corse_label'"),
    ],
)
def test_a_misspelt_column_is_told_with_all_there_are_and_the_nearest_as_a_shell_takes_it(
    there: str, typed: str
) -> None:
    with pytest.raises(ColumnError) as caught:
        choose_columns(SEQUENCE, {"label": "corse_label"}, (_rows({"text": "a", there: "x"}),))
    assert str(caught.value) == (
        f"train.jsonl: no column 'corse_label'; there are 'text', {there!r}; "
        f"did you mean --label-column {typed}?"
    )


def test_a_column_that_only_dev_lacks_is_told_for_dev() -> None:
    train = _rows({"text": "a", "text_pair": "b", "label": "x"})
    dev = _rows({"text": "a", "label": "x"}, source="dev.jsonl")
    with pytest.raises(ColumnError, match=r"dev\.jsonl: no column 'text_pair'"):
        choose_columns(SEQUENCE, {}, (train, dev))


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(NoExamplesError, match=r"dev\.jsonl: the file is empty"):
        choose_columns(SEQUENCE, {}, (_rows({"text": "a", "label": "x"}), _rows(source="dev.jsonl")))
