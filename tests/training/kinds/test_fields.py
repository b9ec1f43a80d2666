import pytest

from training.kinds.fields import (
    UnusableRowError,
    is_fraction,
    label_of,
    numbered_columns,
    read_list,
    read_structure,
)


@pytest.mark.parametrize(
    ("written", "items"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("['a' 'b']", ["a", "b"]),
        ("['a'\n 'b'\n 'c']", ["a", "b", "c"]),
        ("""["it's" 'ok' 'a, b' '[x]']""", ["it's", "ok", "a, b", "[x]"]),
        (r"['a\'b' 'c\\']", ["a'b", "c\\"]),
        ("[0 1 2]", [0, 1, 2]),
        ("[B-PER, O]", ["B-PER", "O"]),
        (" [1, 2] ", [1, 2]),
        ("['a', None, nan]", ["a", None, None]),
    ],
)
def test_lists_are_read_as_json_python_and_numpy_write_them(written: str, items: list[object]) -> None:
    assert read_list({"x": written}, "x") == items


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("['a' 'b'", "broken list"),
        ("['a' ['b']]", "broken list"),
        ("['a' ... 'b']", "cut off"),
        ("['a'] + open('x')", "broken list"),
        ("a b", "must be a list such as"),
        ("[]", "is empty"),
    ],
)
def test_other_texts_are_no_lists(written: str, reason: str) -> None:
    with pytest.raises(UnusableRowError, match=reason):
        read_list({"x": written}, "x")


@pytest.mark.parametrize(
    "written",
    [
        "{'text': ['x', 'y'], 'label': ['A', 'B']}",
        '{"text": ["x", "y"], "label": ["A", "B"]}',
        "{'text': array(['x', 'y'], dtype=object), 'label': array(['A', 'B'], dtype=object)}",
    ],
)
def test_objects_of_lists_are_read(written: str) -> None:
    assert read_structure({"x": written}, "x") == {"text": ["x", "y"], "label": ["A", "B"]}
    with pytest.raises(UnusableRowError, match="broken object"):
        read_structure({"x": "{'text': oops("}, "x")


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (1, "1"), (1.0, "1"), ("1", "1"), ("1.0", "1"), ("1 ", "1"), (-0.0, "0"), ("-1.0", "-1"),
        ("01", "01"),
        (True, "true"), ("TRUE", "true"), ("False", "false"), ("Yes", "Yes"), (" a b\t", "a b"), (4.8, "4.8"),
        ("1.0.0", "1.0.0"),
    ],
)  # fmt: skip
def test_a_label_has_one_name(value: object, label: str) -> None:
    assert label_of(value, "it") == label


def test_fractions_are_known() -> None:
    assert all(map(is_fraction, ["4.8", "-0.5", ".5", "1.5e3", "1e-07"]))
    assert not any(map(is_fraction, ["4", "v4.8", "1.2.3", "1e5", "nan"]))


def test_columns_of_a_name_and_a_number_are_in_their_order() -> None:
    there = ["ending10", "label", "ending2", "ending_1", "endings"]
    assert numbered_columns(there, "ending") == ["ending_1", "ending2", "ending10"]
    assert numbered_columns(["answerB", "answerA", "answer"], "answer") == ["answerA", "answerB"]
