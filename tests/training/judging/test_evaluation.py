from typing import Any

import numpy as np
import pytest

from mask_store import MAX_CONFUSION_LABELS
from masking import Base, TaskSpec, TextInput, WordsInput, task_codec
from tests.support.learning_data import evaluation_of
from training.data.examples import Example, ExampleSet
from training.data.features import encode_examples
from training.judging.evaluation import ClassScores, Confusion, judge
from training.judging.learned import judge_logits
from training.judging.text import evaluation_text


def _judged(base: Base, spec: TaskSpec, targets: list[Any], logits: list[Any]) -> Any:
    examples = tuple(Example(n, TextInput(f"text {n}"), target) for n, target in enumerate(targets, start=1))
    source = ExampleSet("t", "line", examples, ())
    codec = task_codec(spec, base.tokenizer)
    encoded = encode_examples(source, codec)
    rows = [np.array(own, np.float32) for own in logits]
    return judge_logits(base.tokenizer, codec, source, encoded, rows, metric="accuracy")


def test_probabilities_are_held_against_what_came_true(base: Base) -> None:
    spec = TaskSpec("sequence-classification", ("a", "b"), max_length=16)
    sure, unsure = (np.log([p, 1 - p]) for p in (0.95, 0.65))
    _, found = _judged(base, spec, ["a", "a", "b", "a"], [sure, sure, sure, unsure])
    bins = [(one.low, one.count, round(one.confidence, 4), one.accuracy) for one in found.bins]
    assert bins == [(0.6, 1, 0.65, 1.0), (0.9, 3, 0.95, pytest.approx(2 / 3))]
    assert found.calibration_error == pytest.approx((0.35 + 3 * (0.95 - 2 / 3)) / 4, abs=1e-6)
    (error,) = found.worst
    assert (error.line, error.text, error.truth, error.predicted) == (3, "text 3", "b", "a")
    assert found.matrix() == [[3, 0], [1, 0]]


def test_thresholds_are_chosen_before_answers_are_judged(base: Base) -> None:
    spec = TaskSpec("multi-label-classification", ("a", "b"), max_length=16)
    codec, found = _judged(base, spec, [("a",), ("a",), ("b",)], [[-2.0, -9], [-1.0, -9], [-5.0, 1]])
    assert codec.spec.thresholds[0] < 0.2
    assert found.metrics["accuracy"] == 1.0
    assert [one.f1 for one in found.classes] == [1.0, 1.0]


def test_answers_are_judged_as_they_are_given_whatever_thresholds_would_fit(base: Base) -> None:
    spec = TaskSpec("multi-label-classification", ("a", "b"), max_length=16)
    codec = task_codec(spec, base.tokenizer)
    examples = tuple(Example(n, TextInput(f"text {n}"), (label,)) for n, label in enumerate("ab", start=1))
    source = ExampleSet("t", "line", examples, ())
    low = [codec.decode(np.array(own, np.float32)) for own in ([-1.0, -9.0], [-9.0, -1.0])]
    found = judge(codec, source, encode_examples(source, codec), low, metric="f1_micro")
    assert found.metrics["f1_micro"] == 0.0
    assert [one.recall for one in found.classes] == [0.0, 0.0]


def test_words_that_were_cut_are_not_judged(base: Base) -> None:
    spec = TaskSpec("token-classification", ("O", "X"), max_length=8)
    codec = task_codec(spec, base.tokenizer)
    example = Example(1, WordsInput(("the",) * 20), ("O",) * 20)
    source = ExampleSet("t", "line", (example,), ())
    (item,) = encode_examples(source, codec, long_sentences="cut")
    logits = np.tile(np.array([0.0, 1.0], np.float32), (len(item.target), 1))
    found = judge(codec, source, [item], [codec.decode(logits)], metric="accuracy")
    assert sum(one.count for one in found.classes) == len(item.target) < 20
    assert found.worst[0].text.startswith("the: the the")


def test_a_manifest_gets_figures_and_no_texts() -> None:
    info = evaluation_of().info()
    assert info.confusion == ((9, 1), (3, 7))
    assert [one.count for one in info.classes] == [10, 10]
    assert "odd" not in info.model_dump_json()


def test_a_manifest_gets_no_matrix_of_many_labels() -> None:
    labels = [f"label {n}" for n in range(MAX_CONFUSION_LABELS + 1)]
    classes = tuple(ClassScores(label, 1.0, 1.0, 1.0, 1) for label in labels)
    confusion = tuple(Confusion(label, label, 1) for label in labels)
    info = evaluation_of(classes=classes, confusion=confusion).info()
    assert info.confusion == ()
    assert len(info.classes) == len(labels)


def test_of_many_labels_the_text_shows_the_worst() -> None:
    classes = tuple(ClassScores(f"label {n}", 1.0, 1.0, n / 100, 1) for n in reversed(range(60)))
    text = evaluation_text(evaluation_of(classes=classes, confusion=()), "demo version 1")
    assert text.startswith("demo version 1 on 20 examples of dev.jsonl; 1 rows can't be used\n")
    assert "label 0 " in text
    assert "label 40" not in text
    assert "and 20 labels of higher F1" in text
