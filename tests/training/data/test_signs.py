from masking import TextInput
from training.data.examples import Example, ExampleSet
from training.data.signs import describe_labels, signs_of_wrong_data


def _set(source: str, *rows: tuple[str, str]) -> ExampleSet:
    examples = [Example(n, TextInput(text), label) for n, (text, label) in enumerate(rows, start=1)]
    return ExampleSet(source, "line", tuple(examples), ())


TRAIN = _set("train", ("a", "x"), ("b", "y"), ("c", "z"), ("d", "x"))


def _signs(train: ExampleSet, dev: ExampleSet) -> list[str]:
    return list(signs_of_wrong_data("sequence-classification", train, dev))


def test_good_data_have_no_signs() -> None:
    assert _signs(TRAIN, _set("dev", ("e", "x"), ("f", "y"), ("g", "z"))) == []


def test_rows_in_both_sets_are_told() -> None:
    assert _signs(TRAIN, _set("dev", ("e", "x"), ("b", "y"), ("c", "z"))) == [
        "2 of 3 rows of dev (first line 2) are in train too, so dev metrics are better than on new inputs"
    ]


def test_one_input_with_two_labels_is_told() -> None:
    train = _set("train", ("a", "x"), ("b", "y"), ("a", "y"), ("a", "x"))
    assert _signs(train, _set("dev", ("e", "x"), ("f", "y"))) == [
        "train: 1 row has the same input as an earlier one and another label, such as lines 1 and 3"
    ]


def test_labels_that_dev_lacks_are_told() -> None:
    assert _signs(TRAIN, _set("dev", ("e", "x"))) == [
        "dev: every row has the label 'x', so dev metrics say nothing"
    ]
    assert _signs(TRAIN, _set("dev", ("e", "x"), ("f", "z"))) == [
        "dev has no row of 'y', so dev metrics say nothing of 1 labels"
    ]


def test_labels_are_listed_with_counts() -> None:
    assert describe_labels(TRAIN) == "3 labels: x 2, y 1, z 1"
