import pytest

from training.errors import OptionsError
from training.kinds.metrics import choose_metric, is_iob2, measure_classes, measure_words

IOB2 = ("B-LOC", "B-PER", "I-PER", "O")


def test_iob2_is_recognised() -> None:
    assert is_iob2(IOB2)
    assert is_iob2(("B-X", "I-X"))
    assert not is_iob2(("NN", "VB", "O"))
    assert not is_iob2(("I-PER", "O"))
    assert not is_iob2(("B-PER", "I-LOC", "O"))
    assert not is_iob2(("B-PER", "O", "X"))


def test_the_default_metric_follows_kind_and_labels() -> None:
    assert choose_metric("sequence-classification", ("a", "b"), None) == "accuracy"
    assert choose_metric("multiple-choice", (), None) == "accuracy"
    assert choose_metric("token-classification", ("NN", "VB"), None) == "accuracy"
    assert choose_metric("token-classification", IOB2, None) == "f1"
    assert choose_metric("token-classification", IOB2, "accuracy") == "accuracy"


def test_entity_f1_needs_iob2_tags() -> None:
    with pytest.raises(OptionsError, match="NN, VB"):
        choose_metric("token-classification", ("NN", "VB"), "f1")


def test_classes_are_measured_by_accuracy_and_matthews_correlation() -> None:
    truth, predicted = ["a", "a", "b", "b"], ["a", "a", "b", "a"]
    metrics = measure_classes("sequence-classification", truth, predicted)
    assert metrics["accuracy"] == 0.75
    assert metrics["matthews_correlation"] == pytest.approx(1 / 3**0.5)
    assert measure_classes("multiple-choice", truth, predicted) == {"accuracy": 0.75}


def test_one_class_for_all_correlates_with_nothing() -> None:
    metrics = measure_classes("sequence-classification", ["a", "b"], ["a", "a"])
    assert metrics["matthews_correlation"] == 0.0


def test_words_are_measured_by_accuracy_and_whole_entities() -> None:
    truth = [["B-PER", "I-PER", "O"], ["B-LOC"]]
    predicted = [["B-PER", "O", "O"], ["B-LOC"]]
    assert measure_words(IOB2, truth, predicted) == {"accuracy": 0.75, "f1": 0.5}


def test_no_entity_found_is_an_f1_of_zero_without_a_warning() -> None:
    assert measure_words(IOB2, [["B-LOC"]], [["O"]])["f1"] == 0.0


def test_plain_tags_have_no_f1() -> None:
    assert measure_words(("NN", "VB"), [["NN"]], [["NN"]]) == {"accuracy": 1.0}
