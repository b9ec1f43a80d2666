"""Multi-label classification in training: a text or a pair of texts, and any number of labels.

Labels are a list, a cell of several with something between them, or a list of 0 and 1, one for each label.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional

from masking import LabelsPrediction, Prediction, TaskInput
from training.kinds.fields import joined, label_of, read_list, read_value
from training.kinds.judgement import Judgement, Target, judge_labels, labels_of
from training.kinds.kind import Baseline, ColumnNames, Columns, Reading, TargetNumbers
from training.kinds.sequence_classification import SequenceClassification
from training.options import DELIMITERS

_SEPARATORS = ("|", ";", ",")  # the first that any cell has is the one
_NO_THRESHOLD = 0.5
_SHOWN = 3


class MultiLabelClassification(SequenceClassification):
    """Any number of labels for a text or for a pair of texts; see `TrainingKind`."""

    name = "multi-label-classification"
    has_thresholds = True
    each_logit = True
    default_metric = "f1_micro"
    columns: ClassVar[ColumnNames] = {
        "text": SequenceClassification.columns["text"],
        "pair": (),
        "label": ("labels", "label", "tags", "categories", "emotions", "genres", "topics"),
    }

    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read a text, or two, and the labels: a list, or a cell that is split when all are known."""
        return Reading(self.read_input(values, columns), _read_labels(values, columns["label"]))

    def judge(
        self,
        readings: Sequence[tuple[TaskInput, Target]],
        missing: str | None,
        separator: str | None = None,
    ) -> Judgement:
        """Decide what separates the labels of a cell, and whether lists of 0 and 1 stand for labels."""
        targets = [target for _, target in readings]
        cells = [target for target in targets if isinstance(target, str)]
        found = _separator(cells) if separator is None else separator
        places = not cells and _are_places(targets)

        def labels(target: Target) -> tuple[str, ...]:
            if isinstance(target, str):
                return _split(target, found)
            given = labels_of(target)
            return tuple(str(i) for i, one in enumerate(given) if one == "1") if places else _once(given)

        counts = Counter(label for target in targets for label in labels(target))
        judgement = judge_labels(counts, missing or "")
        without = sum(not labels(target) for target in targets)
        notes = [*judgement.notes, *_notes(found, cells, separator, places), f"{without} rows have no label"]
        kept = notes if without else notes[:-1]
        return Judgement(
            lambda task_input, target: judgement.settle(task_input, labels(target)),
            tuple(kept),
            judgement.warnings,
        )

    def numbers(self, target: Target, index: Mapping[str, int]) -> TargetNumbers:
        """Return 1 for each label that is given, else 0; see `TrainingKind.numbers`."""
        given = set(labels_of(target))
        return tuple(int(label in given) for label in index)

    def balanced_weights(self, truth: Sequence[TargetNumbers], labels: int) -> tuple[float, ...]:
        """Return how many inputs lack each label for one that has it; see `TrainingKind.balanced_weights`."""
        having = np.array(truth).sum(axis=0)
        return tuple(((len(truth) - having) / np.maximum(having, 1)).tolist())

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        counts: Sequence[int],
        total: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the mean binary cross entropy over the labels of each example; see `TrainingKind.loss`."""
        return binary_loss(logits, targets, weights) / total

    def thresholds(
        self, truth: Sequence[TargetNumbers], predictions: Sequence[Prediction]
    ) -> tuple[float, ...]:
        """Choose for each label the threshold with the best F1; see `TrainingKind.thresholds`."""
        right = np.array(truth, bool)
        scores = np.stack([one.scores for one in predictions if isinstance(one, LabelsPrediction)])
        return tuple(best_threshold(*columns) for columns in zip(right.T, scores.T, strict=True))

    def measure(
        self,
        labels: Sequence[str],
        truth: Sequence[TargetNumbers],
        predictions: Sequence[Prediction],
        inputs: Sequence[TaskInput] = (),
    ) -> dict[str, float]:
        """Measure F1 over all labels together and as their mean, and the share of inputs wholly right."""
        right: NDArray[np.int64] = np.array(truth)
        found = np.zeros_like(right)
        for row, one in enumerate(predictions):
            assert isinstance(one, LabelsPrediction)
            found[row, list(one.indices)] = 1
        return {
            "f1_micro": float(f1_score(right, found, average="micro", zero_division=0)),
            "f1_macro": float(f1_score(right, found, average="macro", zero_division=0)),
            "accuracy": float((right == found).all(axis=1).mean()),
        }

    def baseline(self, labels: Sequence[str], truth: Sequence[TargetNumbers], metric: str) -> Baseline:
        """Tell what the best of the same answers for everything reaches; see `TrainingKind.baseline`."""
        given: NDArray[np.int64] = np.array(truth)
        share = given.mean(axis=0)
        if metric == "f1_macro":
            return Baseline(float((2 * share / (1 + share)).mean()), "every label for everything")
        if metric == "accuracy":
            answer, count = Counter(map(tuple, given.tolist())).most_common(1)[0]
            names = [repr(label) for label, one in zip(labels, answer, strict=True) if one]
            return Baseline(count / len(given), f"{joined(names, _SHOWN) or 'no label'} for everything")
        order = np.argsort(-share)
        counts = np.arange(1, len(labels) + 1)
        f1 = 2 * np.cumsum(share[order]) / np.maximum(counts + share.sum(), np.finfo(float).tiny)
        best = int(f1.argmax())
        names = [repr(labels[index]) for index in order[: best + 1]]
        return Baseline(float(f1[best]), f"{joined(names, _SHOWN)} for everything")


def binary_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum the mean binary cross entropy of each example, without targets that are NaN.

    Args:
        logits: Float32 [examples, labels].
        targets: Float32 of the same shape, 0 to 1.
        weights: Float32 [labels], of targets that are 1; None for 1.
    """
    loss = functional.binary_cross_entropy_with_logits(
        logits, targets.nan_to_num(), reduction="none", pos_weight=weights
    )
    return (loss * ~targets.isnan()).mean(dim=1).sum()


def best_threshold(right: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Return the threshold with the best F1, half-way between two scores; of equals that nearest to 0.5.

    Args:
        right: Whether each example has the label.
        scores: Score of the label for each.
    """
    if not right.any():
        return _NO_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(float)
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(ranked) + 1) + right.sum())
    below = np.append(ranked[1:], 0.0)
    f1[ranked == below] = -1.0  # no threshold lies between equal scores
    middles = (ranked + below) / 2
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    chosen = float(min(middles[best], key=lambda middle: abs(middle - _NO_THRESHOLD)))
    return min(max(chosen, 1e-6), 1 - 1e-6)


def _read_labels(values: Mapping[str, object], column: str) -> Target:
    value = read_value(values, column)
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return value
    if value == [] or (isinstance(value, str) and "".join(value.split()) == "[]"):
        return ()
    if isinstance(value, bool | int | float):
        return label_of(value, repr(column))
    return tuple(label_of(one, f"an element of {column!r}") for one in read_list(values, column))


def _separator(cells: Sequence[str]) -> str:
    return next((one for one in _SEPARATORS if any(one in cell for cell in cells)), "")


def _split(cell: str, separator: str) -> tuple[str, ...]:
    parts = cell.split(separator) if separator else [cell]
    return _once(label_of(part, "a label") for part in parts if part.strip())


def _once(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(labels))


def _are_places(targets: Sequence[Target]) -> bool:
    """Tell whether all targets are equally long lists of 0 and 1, and some have more zeros than a label."""
    lists = [labels_of(target) for target in targets]
    sizes = {len(one) for one in lists}
    return (
        len(sizes) == 1
        and min(sizes) > 1
        and all(set(one) <= {"0", "1"} for one in lists)
        and any(len(set(one)) < len(one) for one in lists)
    )


def _notes(found: str, cells: Sequence[str], given: str | None, places: bool) -> list[str]:
    if places:
        return ["lists of 0 and 1 are one place for each label; labels are called by their places, from 0"]
    if not found or given is not None:
        return []
    name = next((name for name, character in DELIMITERS.items() if character == found), found)
    shown = next(cell for cell in cells if found in cell)
    return [f"labels of a cell are split at {found!r}, as in {shown!r:.60} (--label-separator {name})"]
