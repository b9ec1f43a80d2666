"""Kind of task in training: its columns, how a row is read, its targets, loss and metrics."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mask_store import TaskKind
from masking import Features, Prediction, TaskInput
from training.options import Metric, Role

IGNORED = -100
"""Target where nothing is to be predicted, as torch's cross entropy has it."""

Target = str | int | tuple[str, ...]
Columns = Mapping[Role, str]
ColumnNames = Mapping[Role, tuple[str, ...]]
TargetIndices = tuple[int, ...]


class TrainingKind(ABC):
    """What training has to know of a kind of task; a kind is a subclass in a file of its own.

    Attributes:
        name: The kind.
        columns: Default names of the column of each role, the first that a file has being taken; as many
            roles as `training.options.ROLES` has for the kind.
        optional: Roles that a file need not have.
    """

    name: ClassVar[TaskKind]
    columns: ClassVar[ColumnNames]
    optional: ClassVar[frozenset[Role]] = frozenset()

    @abstractmethod
    def read(self, values: Mapping[str, object], columns: Columns) -> tuple[TaskInput, Target]:
        """Read one row.

        Args:
            values: Value of each column of the row.
            columns: Column of each role.

        Returns:
            The input, and the right answer: a label, a tag for each word, or the 0-based index of a choice.

        Raises:
            UnusableRowError: The row can't be used; the message says why.
        """

    def targets(self, items: Sequence[tuple[Features, TargetIndices]], shape: torch.Size) -> Tensor:
        """Lay out the targets of a batch.

        Args:
            items: Features and target of each example: the index of the right label or choice, or of the
                right label of each word.
            shape: [rows, tokens] of the padded batch.

        Returns:
            int64 [examples]; [rows, tokens] where every token has logits.
        """
        return torch.tensor([target[0] for _, target in items])

    def loss(self, logits: Tensor, targets: Tensor, counts: Sequence[int], total: int) -> Tensor:
        """Compute the cross entropy of one batch, or its part in that of a step of several batches.

        Args:
            logits: Float32 [rows, labels], [rows, tokens, labels] or [rows, 1], as the model gives them.
            targets: From `targets`; `IGNORED` where nothing is to be predicted.
            counts: Rows of each example.
            total: Targets of the whole step: its examples, or its labelled words.

        Returns:
            A scalar, in nats: the sum over the batch's targets, divided by `total`.
        """
        return functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum") / total

    @abstractmethod
    def measure(
        self, labels: Sequence[str], truth: Sequence[TargetIndices], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        """Measure predictions.

        Args:
            labels: Labels of the task.
            truth: Target of each example, at least one.
            predictions: A prediction for each.

        Returns:
            Every metric of the kind by name.
        """

    def choose_metric(self, labels: Sequence[str], wanted: Metric | None) -> Metric:
        """Choose the metric that decides which epoch is best.

        Args:
            labels: Labels of the task.
            wanted: Metric asked for, one of ``training.options.METRICS`` of the kind; None for the default.

        Raises:
            OptionsError: The labels are not such that the metric can be measured.
        """
        return wanted or "accuracy"
