"""Multiple choice in training: a context, choices, and the right one, by index, letter, name or text."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from sklearn.metrics import accuracy_score
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from masking import ChoiceInput, ClassPrediction, Prediction, TaskInput
from training.kinds.fields import (
    UnusableRowError,
    checked_texts,
    label_of,
    numbered_columns,
    read_label,
    read_structure,
    read_text,
    whole_number,
)
from training.kinds.judgement import Judgement, Target
from training.kinds.kind import ColumnNames, Columns, Reading, TargetNumbers, TrainingKind

MIN_CHOICES = 2
_LETTERS = "ABCDEFGH"


class MultipleChoice(TrainingKind):
    """The right one of several choices, whose number may vary; see `TrainingKind`."""

    name = "multiple-choice"
    has_classes = False
    columns: ClassVar[ColumnNames] = {
        "context": ("context", "premise", "question", "ctx", "startphrase", "goal"),
        "choices": (
            "choices",
            "endings",
            "options",
            "ending",
            "choice",
            "option",
            "answer",
            "solution",
            "sol",
        ),
        "label": ("label", "answerKey", "gold", "answer"),
    }

    def read_input(self, values: Mapping[str, object], columns: Columns) -> ChoiceInput:
        """Read a context and its choices."""
        _, choices = _read_choices(values, columns["choices"])
        if len(choices) < MIN_CHOICES:
            raise UnusableRowError(
                f"{len(choices)} choice in {columns['choices']!r}, at least two are needed"
            )
        return ChoiceInput(read_text(values, columns["context"]), choices)

    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read a context, its choices, and the right one: its index if it can be told from this row alone.

        A label that is a number stays one, until it is judged whether labels count from 0 or from 1.
        """
        question = self.read_input(values, columns)
        names, choices = _read_choices(values, columns["choices"])
        label = read_label(values, columns["label"])
        return Reading(question, _resolved(label, names, choices))

    def judge(
        self,
        readings: Sequence[tuple[TaskInput, Target]],
        missing: str | None,
        separator: str | None = None,
    ) -> Judgement:
        """Decide whether labels count from 0 or from 1; see `TrainingKind.judge`.

        They count from 1 where none is 0 and one is the number of the choices that it has.
        """
        numbers = [
            (int(target), task_input.rows)
            for task_input, target in readings
            if isinstance(target, str) and whole_number(target) is not None
        ]
        first = int(all(number > 0 for number, _ in numbers) and any(own == most for own, most in numbers))
        how = "none is 0, and one is the number of its choices"
        notes = (f"labels count from 1 ({how})",) if first else ()

        def settle(task_input: TaskInput, target: Target) -> Target:
            if missing and target == missing:
                raise UnusableRowError(f"label {target!r} means no label")
            number = whole_number(str(target))
            index = number - first if isinstance(target, str) and number is not None else number
            if index is None or not 0 <= index < task_input.rows:
                last = task_input.rows - 1 + first
                raise UnusableRowError(f"label {target!r} is not one of the choices, {first} to {last}")
            return index

        return Judgement(settle, notes)

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        counts: Sequence[int],
        total: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the cross entropy over the choices of each example; see `TrainingKind.loss`."""
        finite = choice_logits(logits, counts).clamp(min=torch.finfo(torch.float32).min)  # 0 times it is 0
        return super().loss(finite, targets, counts, total)

    def measure(
        self,
        labels: Sequence[str],
        truth: Sequence[TargetNumbers],
        predictions: Sequence[Prediction],
        inputs: Sequence[TaskInput] = (),
    ) -> dict[str, float]:
        """Measure accuracy."""
        found = [one.index for one in predictions if isinstance(one, ClassPrediction)]
        return {"accuracy": float(accuracy_score([target[0] for target in truth], found))}


def choice_logits(logits: Tensor, counts: Sequence[int]) -> Tensor:
    """Lay the logits of each example's choices side by side.

    Args:
        logits: Float32 [rows, 1], a row a choice.
        counts: Choices of each example, summing to rows.

    Returns:
        float32 [examples, most choices]; minus infinity, which softmax turns to 0, where an example has
        fewer.
    """
    choices = list(torch.split(logits.squeeze(-1), list(counts)))
    return pad_sequence(choices, batch_first=True, padding_value=float("-inf"))


def _read_choices(values: Mapping[str, object], column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read choices and their names, where they have any.

    They are a list of texts; ``{"text": [...], "label": [...]}``, or a list of such objects, one a choice; or
    one column each, of which the last ones may be empty.
    """
    if column not in values and (spread := numbered_columns(values, column)):
        found = [values[name] for name in spread]
        while found and (found[-1] is None or not str(found[-1]).strip()):
            found.pop()
        return (), checked_texts(found, column)
    structure = read_structure(values, column)
    if isinstance(structure, list) and all(isinstance(item, dict) for item in structure):
        structure = {key: [item.get(key) for item in structure] for key in ("text", "label")}
    if not isinstance(structure, dict):
        return (), checked_texts(structure if isinstance(structure, list) else [structure], column)
    texts, labels = structure.get("text"), structure.get("label")
    if not isinstance(texts, list) or (isinstance(labels, list) and len(labels) != len(texts)):
        raise UnusableRowError(f"{column!r} must be a list of texts, or have a list 'text' and one 'label'")
    named = labels if isinstance(labels, list) and None not in labels else []
    names = tuple(label_of(label, f"a label in {column!r}") for label in named)
    return names, checked_texts(texts, column)


def _resolved(label: str, names: Sequence[str], choices: Sequence[str]) -> Target:
    """Return the index of the choice that has a name, a letter or a text; a number as it is."""
    if label in names:
        return list(names).index(label)
    if whole_number(label) is None:
        if len(label) == 1 and label.upper() in _LETTERS[: len(choices)]:
            return _LETTERS.index(label.upper())
        if label in choices:
            return list(choices).index(label)
    return label
