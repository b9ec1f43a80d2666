from collections import Counter

import pytest

from masking import TextInput
from training.errors import LabelError
from training.kinds.fields import UnusableRowError
from training.kinds.judgement import Judgement, judge_labels

TEXT = TextInput("a")


def _left_out(judgement: Judgement, label: str) -> bool:
    try:
        judgement.settle(TEXT, label)
    except UnusableRowError:
        return True
    return False


@pytest.mark.parametrize(
    ("counts", "missing", "left_out", "told"),
    [
        ({"0": 9, "1": 9, "2": 9, "-1": 9}, None, True, "its 9 rows or words are left out; if it is a class"),
        ({"0": 50, "1": 50, "-1": 2}, None, True, "its 2 rows"),
        ({"0": 9, "1": 9, "-1": 9}, None, False, "if it marks rows without a label"),
        ({"0": 9, "1": 9, "-1": 9}, "-1", True, "its 9 rows"),
        ({"0": 9, "1": 9, "2": 9, "-1": 9}, "", False, ""),
        ({"-2": 9, "-1": 9, "0": 9, "1": 9}, None, False, ""),
        ({"1": 9, "-1": 9}, None, False, "if it marks rows"),
        ({"a": 9, "b": 9, "-1": 9}, None, False, ""),
    ],
)
def test_minus_one_is_no_label_beside_numbers_of_classes(
    counts: dict[str, int], missing: str | None, left_out: bool, told: str
) -> None:
    judgement = judge_labels(counts, missing)
    assert _left_out(judgement, "-1") == left_out
    said = " ".join(judgement.notes + judgement.warnings)
    assert told in said
    assert bool(said) == bool(told)


def test_a_label_that_the_user_names_is_none() -> None:
    judgement = judge_labels(Counter(a=3, b=3, NaN=2), "NaN")
    assert _left_out(judgement, "NaN")
    assert judgement.warnings == ()
    assert judgement.settle(TEXT, ("a", "b")) == ("a", "b")
    with pytest.raises(UnusableRowError):
        judgement.settle(TEXT, ("a", "NaN"))


def test_labels_that_look_alike_or_like_none_are_warned_of() -> None:
    counts = {"Positive": 3, "positive": 2, "out of scope": 1, "outofscope": 1, "null": 4, "?": 1}
    assert judge_labels(counts, None).warnings == (
        "labels 'Positive' and 'positive' differ by case or space alone, and are two classes",
        "labels 'out of scope' and 'outofscope' differ by case or space alone, and are two classes",
        "label 'null' (4 times) looks like no label; if so, give --missing-label=null",
        "label '?' (1 times) looks like no label; if so, give --missing-label='?'",
    )


def test_scores_are_refused_and_a_fraction_among_names_is_left_out() -> None:
    with pytest.raises(LabelError, match=r"scores \(2\.5, 0\.1, 0\.2 and 1 more\)"):
        judge_labels({"1": 1, "2.5": 1, "0.1": 1, "0.2": 1, "0.3": 1}, None)
    assert _left_out(judge_labels({"good": 3, "bad": 3, "0.5": 1}, None), "0.5")


def test_labels_made_of_other_labels_are_told() -> None:
    found = judge_labels({"art": 3, "food": 2, "art|food": 1, ",": 4}, None)
    assert found.warnings == (
        "label 'art|food' is made of other labels, and a class of its own; if a text may have several, "
        "give --kind multi-label-classification",
    )
    assert judge_labels({"a|b": 1, "a": 2, ",": 4}, None).warnings == ()
