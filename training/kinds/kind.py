"""Kind of task in training: its columns, how a row is read, its targets, loss and metrics."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mask_store import TaskKind
from masking import Features, Prediction, TaskInput
from training.kinds.judgement import Judgement, Target, count_labels, judge_labels
from training.options import Metric, Role

IGNORED = -100
"""Target where nothing is to be predicted, as torch's cross entropy has it."""

Columns = Mapping[Role, str]
ColumnNames = Mapping[Role, tuple[str, ...]]
TargetIndices = tuple[int, ...]


class Reading(NamedTuple):
    """One row as read.

    Attributes:
        input: What the task is asked.
        target: The right answer as the row has it; see `TrainingKind.judge`.
        remark: What was done to the row, if anything.
    """

    input: TaskInput
    target: Target
    remark: str = ""


class Baseline(NamedTuple):
    """What is reached without learning.

    Attributes:
        value: Value of the dev metric.
        how: The answer that reaches it.
    """

    value: float
    how: str


class TrainingKind(ABC):
    """What training has to know of a kind of task; a kind is a subclass in a file of its own.

    Attributes:
        name: The kind.
        columns: Default names of the column of each role, the first that a file has being taken; as many
            roles as `training.options.ROLES` has for the kind.
        optional: Roles that a file need not have.
        together: Names of several roles' columns that go together, each tried before the default names.
    """

    name: ClassVar[TaskKind]
    columns: ClassVar[ColumnNames]
    optional: ClassVar[frozenset[Role]] = frozenset()
    together: ClassVar[tuple[Columns, ...]] = ()

    @abstractmethod
    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read one row.

        Args:
            values: Value of each column of the row.
            columns: Column of each role.

        Returns:
            The input, and the right answer as it stands there: a label, a tag for each word, or a choice.

        Raises:
            UnusableRowError: The row can't be used; the message says why.
        """

    def judge(self, readings: Sequence[tuple[TaskInput, Target]], missing: str | None) -> Judgement:
        """Decide over all rows what their targets mean.

        Args:
            readings: Input and target of every row of train and dev, as read.
            missing: Label of rows that have none, as the user says; see `judge_labels`.

        Raises:
            LabelError: They can't be learned.
        """
        return judge_labels(count_labels(target for _, target in readings), missing)

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

    def baseline(self, labels: Sequence[str], truth: Sequence[TargetIndices], metric: str) -> Baseline:
        """Tell what a metric is where the most frequent right answer is given to everything.

        Args:
            labels: Labels of the task.
            truth: Target of each example, at least one.
            metric: One of the metrics that `measure` returns.
        """
        counts = Counter(index for target in truth for index in target)
        index, count = counts.most_common(1)[0]
        answer = f"{labels[index]!r} for everything" if labels else f"choice {index} for everything"
        return Baseline(count / counts.total() if metric == "accuracy" else 0.0, answer)

    def choose_metric(self, labels: Sequence[str], wanted: Metric | None) -> Metric:
        """Choose the metric that decides which epoch is best.

        Args:
            labels: Labels of the task.
            wanted: Metric asked for, one of ``training.options.METRICS`` of the kind; None for the default.

        Raises:
            OptionsError: The labels are not such that the metric can be measured.
        """
        return wanted or "accuracy"
