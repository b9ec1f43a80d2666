from typing import Any

import pytest

from mask_store import TaskKind
from masking import ChoiceInput, TextInput, WordsInput
from training.data.examples import (
    ExampleSet,
    choose_columns,
    describe_unusable,
    learn_labels,
    read_examples,
    sort_labels,
)
from training.data.rows import Row, RowSet
from training.errors import ColumnError, LabelError, NoExamplesError
from training.options import ROLES


def _rows(*values: dict[str, Any], source: str = "train.jsonl") -> RowSet:
    return RowSet(source, "line", tuple(Row(number, row) for number, row in enumerate(values, start=1)))


def _examples(kind: TaskKind, *values: dict[str, Any], source: str = "train.jsonl") -> ExampleSet:
    rows = _rows(*values, source=source)
    return read_examples(rows, kind, choose_columns(kind, dict.fromkeys(ROLES[kind]), (rows,)))


def test_texts_words_and_choices_are_read() -> None:
    single = _examples("sequence-classification", {"sentence": "hi", "label": True})
    double = _examples("sequence-classification", {"text": "hi", "text_pair": "ho", "label": 2.0})
    words = _examples("token-classification", {"tokens": ["hi", "ho"], "tags": ["X", 3]})
    choice = _examples("multiple-choice", {"context": "c", "choices": ["x", "y"], "label": "1"})

    assert (single.examples[0].input, single.examples[0].target) == (TextInput("hi"), "true")
    assert (double.examples[0].input, double.examples[0].target) == (TextInput("hi", "ho"), "2")
    assert (words.examples[0].input, words.examples[0].target) == (WordsInput(("hi", "ho")), ("X", "3"))
    assert (choice.examples[0].input, choice.examples[0].target) == (ChoiceInput("c", ("x", "y")), 1)


def test_lists_in_csv_are_json() -> None:
    words = _examples(
        "token-classification",
        {"tokens": '["hi", "ho"]', "tags": '["X", "Y"]'},
        {"tokens": '["hi", ', "tags": '["X"]'},
    )
    assert words.examples[0].target == ("X", "Y")
    assert words.unusable[0].reason == "'tokens' is a broken JSON list"


GOOD: dict[TaskKind, dict[str, Any]] = {
    "sequence-classification": {"text": "hi", "text_pair": "ho", "label": "a"},
    "token-classification": {"tokens": ["hi"], "tags": ["X"]},
    "multiple-choice": {"context": "c", "choices": ["x", "y"], "label": 0},
}


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("sequence-classification", {"text": None}, "'text' is missing"),
        ("sequence-classification", {"text": "  "}, "'text' is empty"),
        ("sequence-classification", {"text": 7}, "'text' must be text, found int"),
        ("sequence-classification", {"text_pair": ""}, "'text_pair' is empty"),
        ("sequence-classification", {"label": None}, "'label' is missing"),
        ("sequence-classification", {"label": float("nan")}, "'label' is missing"),
        ("sequence-classification", {"label": 0.5}, "'label' is 0.5, and a label is text or a whole number"),
        ("sequence-classification", {"label": ["a"]}, "'label' must be text, found list"),
        ("token-classification", {"tokens": "hi"}, "'tokens' must be a list, found str"),
        ("token-classification", {"tokens": []}, "'tokens' is empty"),
        ("token-classification", {"tokens": ["hi", "ho"]}, "2 tokens but 1 tags"),
        ("token-classification", {"tokens": [" "]}, "an element of 'tokens' is empty"),
        ("token-classification", {"tags": [None]}, "a tag in 'tags' must be text, found NoneType"),
        ("multiple-choice", {"choices": ["x"]}, "1 choice in 'choices', at least two are needed"),
        ("multiple-choice", {"choices": ["x", ""]}, "an element of 'choices' is empty"),
        ("multiple-choice", {"label": 2}, "label '2' is not an index of a choice, 0 to 1"),
        ("multiple-choice", {"label": "first"}, "label 'first' is not an index of a choice, 0 to 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_kept_with_its_line_and_the_reason(
    kind: TaskKind, change: dict[str, Any], reason: str
) -> None:
    examples = _examples(kind, GOOD[kind], GOOD[kind] | change, GOOD[kind])
    assert [example.line for example in examples.examples] == [1, 3]
    assert [(row.line, row.reason) for row in examples.unusable] == [(2, reason)]


def test_unusable_rows_are_told_by_reason_with_their_lines() -> None:
    rows = [GOOD["sequence-classification"], *[{"text": ""}] * 7, {"text": "x", "text_pair": "y"}]
    examples = _examples("sequence-classification", *rows)
    assert describe_unusable(examples.unusable, examples.unit) == [
        "7 rows (lines 2, 3, 4, 5, 6 and 2 more): 'text_pair' is missing",
        "1 row (line 9): 'label' is missing",
    ]


def test_columns_have_default_names_and_a_pair_where_there_is_one() -> None:
    rows = _rows({"sentence": "a", "text_pair": "b", "label": "x"})
    named = dict.fromkeys(ROLES["sequence-classification"])
    columns = choose_columns("sequence-classification", named, (rows,))
    assert columns == {"text": "sentence", "pair": "text_pair", "label": "label"}


def test_named_columns_win() -> None:
    rows = _rows({"text": "a", "question": "b", "label": "x", "coarse": "y"})
    columns = choose_columns(
        "sequence-classification", {"text": "question", "pair": None, "label": "coarse"}, (rows, rows)
    )
    assert columns == {"text": "question", "label": "coarse"}


def test_a_misspelt_column_is_told_with_the_nearest_and_all_there_are() -> None:
    rows = _rows({"text": "a", "coarse_label": "x"})
    with pytest.raises(ColumnError) as caught:
        choose_columns("sequence-classification", {"label": "corse_label"}, (rows,))
    assert str(caught.value) == (
        "train.jsonl: no column 'corse_label'; there are 'text', 'coarse_label'; "
        "did you mean --label-column coarse_label?"
    )


def test_a_column_that_only_dev_lacks_is_told_for_dev() -> None:
    train = _rows({"text": "a", "text_pair": "b", "label": "x"})
    dev = _rows({"text": "a", "label": "x"}, source="dev.jsonl")
    with pytest.raises(ColumnError, match=r"dev\.jsonl: no column 'text_pair'"):
        choose_columns("sequence-classification", {}, (train, dev))


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(NoExamplesError, match=r"dev\.jsonl: the file is empty"):
        choose_columns(
            "sequence-classification", {}, (_rows({"text": "a", "label": "x"}), _rows(source="dev.jsonl"))
        )


def test_a_file_without_one_usable_row_is_an_error_with_the_reasons() -> None:
    with pytest.raises(NoExamplesError, match=r"none of the 2 rows.*lines 1, 2\): 'text' is empty"):
        _examples("sequence-classification", *[{"text": "", "label": "x"}] * 2)


def test_labels_are_sorted_and_numbers_as_numbers() -> None:
    assert sort_labels(["10", "9", "-1"]) == ("-1", "9", "10")
    assert sort_labels(["10", "9", "b"]) == ("10", "9", "b")


def test_labels_come_from_train() -> None:
    train = _examples("token-classification", {"tokens": ["a", "b"], "tags": ["Y", "X"]})
    assert learn_labels("token-classification", train, train) == ("X", "Y")
    choices = _examples("multiple-choice", GOOD["multiple-choice"])
    assert learn_labels("multiple-choice", choices, choices) == ()


def test_one_label_only_is_an_error() -> None:
    train = _examples("sequence-classification", *[{"text": "a", "label": "spam"}] * 3)
    with pytest.raises(LabelError, match="every row has the label 'spam'"):
        learn_labels("sequence-classification", train, train)


def test_labels_that_train_lacks_are_told_with_their_lines() -> None:
    train = _examples("sequence-classification", {"text": "a", "label": "x"}, {"text": "a", "label": "y"})
    dev = _examples(
        "sequence-classification",
        *({"text": "a", "label": label} for label in "xzyzw"),
        source="dev.jsonl",
    )
    with pytest.raises(LabelError) as caught:
        learn_labels("sequence-classification", train, dev)
    assert str(caught.value) == (
        "dev.jsonl: labels that train.jsonl lacks: 'z' (lines 2, 4); 'w' (line 5); it has 'x', 'y'"
    )
