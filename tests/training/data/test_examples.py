from typing import Any

import pytest

from mask_store import TaskKind
from masking import ChoiceInput, TextInput, WordsInput
from training.data.columns import choose_columns
from training.data.examples import (
    ExampleSet,
    describe_unusable,
    judge,
    learn_labels,
    read_examples,
    settle,
    sort_labels,
)
from training.data.rows import Row, RowSet
from training.errors import LabelError, NoExamplesError
from training.options import ROLES


def _rows(*values: dict[str, Any], source: str = "train.jsonl") -> RowSet:
    return RowSet(source, "line", tuple(Row(number, row) for number, row in enumerate(values, start=1)))


def _examples(kind: TaskKind, *values: dict[str, Any], source: str = "train.jsonl") -> ExampleSet:
    rows = _rows(*values, source=source)
    examples = read_examples(rows, kind, choose_columns(kind, dict.fromkeys(ROLES[kind]), (rows,)))
    return settle(examples, judge(kind, (examples,), None))


def test_texts_words_and_choices_are_read() -> None:
    single = _examples("sequence-classification", {"sentence": "hi", "label": True})
    double = _examples("sequence-classification", {"text": "hi", "text_pair": "ho", "label": 2.0})
    words = _examples("token-classification", {"tokens": ["hi", "ho"], "tags": ["X", 3]})
    story = {"context": "c", "choices": ["x", "y"]}
    choice = _examples("multiple-choice", story | {"label": "1"}, story | {"label": 0})

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
    assert words.unusable[0].reason == """'tokens' is a broken list; expected a list such as ["a", "b"]"""


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
        (
            "sequence-classification",
            {"label": 0.5},
            "label '0.5' is a fraction; a label is text or a whole number",
        ),
        ("sequence-classification", {"text": "x \ud83d"}, "'text' holds half a character (a lone surrogate)"),
        ("sequence-classification", {"label": "\ud83d"}, "'label' holds half a character (a lone surrogate)"),
        (
            "sequence-classification",
            {"label": ["a"]},
            "'label' is a list; texts with several labels: --kind multi-label-classification",
        ),
        (
            "token-classification",
            {"tokens": "hi"},
            """'tokens' must be a list such as ["a", "b"], found str""",
        ),
        (
            "token-classification",
            {"tokens": ["\udc00"]},
            "an element of 'tokens' holds half a character (a lone surrogate)",
        ),
        (
            "token-classification",
            {"tags": ["\udc00"]},
            "a tag in 'tags' holds half a character (a lone surrogate)",
        ),
        ("token-classification", {"tokens": []}, "'tokens' is empty"),
        ("token-classification", {"tokens": ["hi", "ho"]}, "2 tokens but 1 tags"),
        ("token-classification", {"tokens": [" "]}, "'tokens' is empty"),
        ("token-classification", {"tags": [None]}, "a tag in 'tags' must be text, found NoneType"),
        ("multiple-choice", {"choices": ["x"]}, "1 choice in 'choices', at least two are needed"),
        ("multiple-choice", {"choices": ["x", ""]}, "an element of 'choices' is empty"),
        ("multiple-choice", {"label": 2}, "label '2' is not one of the choices, 0 to 1"),
        ("multiple-choice", {"label": "first"}, "label 'first' is not one of the choices, 0 to 1"),
        (
            "multiple-choice",
            {"choices": ["x", "\ud83d"]},
            "an element of 'choices' holds half a character (a lone surrogate)",
        ),
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


def test_a_file_without_one_usable_row_is_an_error_with_the_reasons() -> None:
    with pytest.raises(NoExamplesError, match=r"none of the 2 rows.*lines 1, 2\): 'text' is empty"):
        _examples("sequence-classification", *[{"text": "", "label": "x"}] * 2)


def test_only_the_first_of_many_reasons_are_told() -> None:
    good = GOOD["multiple-choice"]
    rows = [good, *(good | {"label": number} for number in range(2, 30))]
    told = describe_unusable(_examples("multiple-choice", *rows).unusable, "line")
    assert len(told) == 9
    assert told[-1] == "and 20 more reasons"


def test_words_of_white_space_are_passed_over_with_their_tags() -> None:
    examples = _examples(
        "token-classification",
        {"tokens": ["a", "\n", "b", "\u3000"], "tags": ["X", "Y", "Z", "O"]},
        {"tokens": ["c"], "tags": ["X"]},
    )
    assert examples.examples[0].input == WordsInput(("a", "b"))
    assert examples.examples[0].target == ("X", "Z")
    assert describe_unusable(examples.remarks, "line") == [
        "1 row (line 1): tokens of white space are passed over"
    ]


def test_rows_without_a_label_are_left_out_of_all_sets() -> None:
    rows = [{"text": "a", "label": label} for label in (0, 1, 2, -1, "2.0")]
    examples = _examples("sequence-classification", *rows)
    assert [example.target for example in examples.examples] == ["0", "1", "2", "2"]
    assert [(row.line, row.reason) for row in examples.unusable] == [(4, "label '-1' means no label")]


def test_scores_are_refused_with_their_file() -> None:
    with pytest.raises(LabelError, match=r"train\.jsonl: the labels are scores \(4\.8, 0\.5\)"):
        _examples("sequence-classification", {"text": "a", "label": "4.8"}, {"text": "b", "label": 0.5})


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
