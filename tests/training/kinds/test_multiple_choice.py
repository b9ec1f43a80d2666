import math
from typing import Any

import numpy as np
import pytest
import torch

from masking import ChoiceInput, ClassPrediction
from training.kinds import TRAINING_KINDS, Columns, Judgement, Target
from training.kinds.fields import UnusableRowError
from training.kinds.multiple_choice import choice_logits

KIND = TRAINING_KINDS["multiple-choice"]


def test_choices_compete_within_their_example_however_many_there_are() -> None:
    logits = torch.tensor([[1.0], [1.0], [0.0], [0.0], [0.0]], requires_grad=True)
    loss = KIND.loss(logits, torch.tensor([1, 2]), [2, 3], 2)
    loss.backward()
    assert loss.item() == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_missing_choices_are_impossible() -> None:
    laid_out = choice_logits(torch.tensor([[1.0], [2.0], [3.0]]), [1, 2])
    assert laid_out.tolist() == [[1.0, -math.inf], [2.0, 3.0]]


def test_choices_are_measured_by_accuracy() -> None:
    logits = np.zeros(2, np.float32)
    predictions = [ClassPrediction(logits, logits, str(index), index) for index in (0, 0, 1, 0)]
    assert KIND.choose_metric((), None) == "accuracy"
    assert KIND.measure((), [(0,), (0,), (1,), (1,)], predictions) == {"accuracy": 0.75}


COLUMNS: Columns = {"context": "question", "choices": "choices", "label": "answer"}


def _settled(*rows: dict[str, Any], missing: str | None = None) -> tuple[list[Target], Judgement]:
    readings = [KIND.read({"question": "why?"} | row, COLUMNS) for row in rows]
    judgement = KIND.judge([(one.input, one.target) for one in readings], missing)
    return [judgement.settle(one.input, one.target) for one in readings], judgement


ARC = {"text": ["x", "y", "z"], "label": ["A", "B", "C"]}


@pytest.mark.parametrize(
    ("choices", "answer", "index"),
    [
        (["x", "y", "z"], "C", 2),
        (["x", "y", "z"], "b", 1),
        (["x", "y", "z"], "y", 1),
        (["x", "y", "z"], 0, 0),
        ("['x' 'y' 'z']", "2", 2),
        (ARC, "B", 1),
        (ARC | {"label": ["1", "2", "3"]}, "3", 2),
        ([{"text": "x", "label": "p"}, {"text": "y", "label": "q"}], "q", 1),
        ([{"text": "x"}, {"text": "y"}], 1, 1),
    ],
)
def test_the_right_choice_is_told_by_index_letter_name_or_text(choices: Any, answer: Any, index: int) -> None:
    first = {"choices": ["x", "y"], "answer": 0}
    settled, judgement = _settled(first, {"choices": choices, "answer": answer})
    assert settled == [0, index]
    assert judgement.notes == ()


def test_choices_may_have_a_column_each_of_which_the_last_are_empty() -> None:
    row = {"choices1": "y", "choices0": "x", "choices2": "", "answer": 1}
    reading = KIND.read({"question": "why?"} | row, COLUMNS)
    assert reading.input == ChoiceInput("why?", ("x", "y"))


def test_labels_count_from_1_where_none_is_0_and_one_is_the_number_of_choices() -> None:
    counts = ((2, 1), (3, 3), (3, 2))
    rows = [{"choices": ["x", "y", "z"][:many], "answer": answer} for many, answer in counts]
    settled, judgement = _settled(*rows)
    assert settled == [0, 2, 1]
    assert judgement.notes == ("labels count from 1 (none is 0, and one is the number of its choices)",)


@pytest.mark.parametrize("answer", [3, -1, "D", "w", "AB"])
def test_an_answer_that_is_no_choice_is_refused(answer: Any) -> None:
    with pytest.raises(UnusableRowError, match="is not one of the choices, 0 to 2"):
        _settled({"choices": ["x", "y", "z"], "answer": 0}, {"choices": ["x", "y", "z"], "answer": answer})


@pytest.mark.parametrize("choices", [{"label": ["A"]}, {"text": ["x", "y"], "label": ["A"]}])
def test_objects_without_texts_are_refused(choices: Any) -> None:
    with pytest.raises(UnusableRowError, match="a list of texts, or have a list 'text'"):
        _settled({"choices": choices, "answer": 0})
