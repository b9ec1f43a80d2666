"""Kind of task in training: its columns, how a row is read, its targets, loss and metrics."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from mask_store import TaskKind
from masking import Features, Prediction, TaskInput
from training.kinds.judgement import Judgement, Target, count_labels, judge_labels, labels_of
from training.options import Metric, Role

IGNORED = -100
"""Target where nothing is to be predicted, as torch's cross entropy has it."""

BASE_ALONE = "the base without a mask"
"""What embeddings are compared with, in place of one answer for everything."""

Columns = Mapping[Role, str]
ColumnNames = Mapping[Role, tuple[str, ...]]
TargetNumbers = tuple[Any, ...]
"""A target as numbers: indices of labels or of a choice, 0 or 1 for each label, or values."""


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
        has_classes: Whether targets are labels or tags, which can be counted.
        each_logit: Whether each logit has a target of its own, and the loss is a mean over them.
        default_metric: The metric that decides which epoch is best, unless another one is asked for.
        has_thresholds: Whether labels have thresholds, which are chosen on dev.
    """

    name: ClassVar[TaskKind]
    columns: ClassVar[ColumnNames]
    optional: ClassVar[frozenset[Role]] = frozenset()
    together: ClassVar[tuple[Columns, ...]] = ()
    has_classes: ClassVar[bool] = True
    each_logit: ClassVar[bool] = False
    default_metric: ClassVar[Metric] = "accuracy"
    has_thresholds: ClassVar[bool] = False

    @abstractmethod
    def read_input(self, values: Mapping[str, object], columns: Columns) -> TaskInput:
        """Read what a row asks, without its answer.

        Args:
            values: Value of each column of the row.
            columns: Column of each role but that of the answer.

        Raises:
            UnusableRowError: The row can't be used; the message says why.
        """

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

    def judge(
        self,
        readings: Sequence[tuple[TaskInput, Target]],
        missing: str | None,
        separator: str | None = None,
    ) -> Judgement:
        """Decide over all rows what their targets mean.

        Args:
            readings: Input and target of every row of train and dev, as read.
            missing: Label of rows that have none, as the user says; see `judge_labels`.
            separator: What stands between the labels of a cell, as the user says; None to find it.

        Raises:
            LabelError: They can't be learned.
        """
        return judge_labels(count_labels(target for _, target in readings), missing)

    def value_names(self, columns: Columns) -> tuple[str, ...]:
        """Return what stands for the labels of a kind without classes, whose logits are values."""
        return ()

    def bias(self, truth: Sequence[TargetNumbers]) -> tuple[float, ...]:
        """Return what the classifier's bias starts from; empty for 0.

        Args:
            truth: Targets of the training examples, at least one.
        """
        return ()

    def numbers(self, target: Target, index: Mapping[str, int]) -> TargetNumbers:
        """Return a target as numbers.

        Args:
            target: The right answer, settled.
            index: Index of each label of the task.
        """
        if isinstance(target, int):
            return (target,)
        if isinstance(target, tuple) and not self.has_classes:
            return target
        return tuple(index[label] for label in labels_of(target))

    def count(self, target: TargetNumbers) -> int:
        """Return how many targets of the loss an example has."""
        return 1 if self.each_logit else len(target)

    def targets(self, items: Sequence[tuple[Features, TargetNumbers]], shape: torch.Size) -> Tensor:
        """Lay out the targets of a batch.

        Args:
            items: Features and target of each example, see `numbers`.
            shape: [rows, tokens] of the padded batch.

        Returns:
            int64 [examples], or [rows, tokens] where every token has logits; float32 [examples, labels] where
            each label has a target of its own.
        """
        if self.each_logit:
            return torch.tensor([target for _, target in items], dtype=torch.float32)
        return torch.tensor([target[0] for _, target in items])

    def soft_targets(self, items: Sequence[tuple[Features, Tensor]], shape: torch.Size) -> Tensor:
        """Lay out probabilities in place of the targets of a batch.

        Args:
            items: Features of each example, and its probabilities: [labels], [choices] or [words, labels].
            shape: [rows, tokens] of the padded batch.

        Returns:
            float32 [examples, labels], or [rows, tokens, labels] where every token has logits; 0 throughout
            where nothing is to be predicted.
        """
        return pad_sequence([probabilities for _, probabilities in items], batch_first=True)

    def balanced_weights(self, truth: Sequence[TargetNumbers], labels: int) -> tuple[float, ...]:
        """Return a weight in the loss for each label, so that each weighs as much as any other.

        Args:
            truth: Targets of the training examples, at least one.
            labels: How many labels the task has.

        Returns:
            Their mean over all targets is 1.
        """
        counts = Counter(index for target in truth for index in target)
        return tuple(counts.total() / (labels * counts[index]) for index in range(labels))

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        counts: Sequence[int],
        total: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the cross entropy of one batch, or its part in that of a step of several batches.

        Args:
            logits: Float32 [rows, labels], [rows, tokens, labels] or [rows, 1], as the model gives them.
            targets: From `targets`, `IGNORED`, or NaN in float32, where nothing is to be predicted; or from
                `soft_targets`.
            counts: Rows of each example.
            total: Targets of the whole step: its examples, or its labelled words.
            weights: Float32 [labels], of `balanced_weights`; None where all targets weigh the same.

        Returns:
            A scalar, in nats: the sum over the batch's targets, divided by `total`.
        """
        rules: dict[str, Any] = {"ignore_index": IGNORED, "reduction": "sum"}
        return functional.cross_entropy(logits, targets, weights, **rules) / total

    def thresholds(
        self, truth: Sequence[TargetNumbers], predictions: Sequence[Prediction]
    ) -> tuple[float, ...]:
        """Choose the score from which on each label is given; empty for a kind that has no thresholds.

        Args:
            truth: Target of each example, at least one.
            predictions: A prediction for each.
        """
        return ()

    @abstractmethod
    def measure(
        self,
        labels: Sequence[str],
        truth: Sequence[TargetNumbers],
        predictions: Sequence[Prediction],
        inputs: Sequence[TaskInput] = (),
    ) -> dict[str, float]:
        """Measure predictions.

        Args:
            labels: Labels of the task.
            truth: Target of each example, at least one.
            predictions: A prediction for each.
            inputs: What each was asked, which reranking needs to know.

        Returns:
            Every metric of the kind by name.
        """

    def baseline(self, labels: Sequence[str], truth: Sequence[TargetNumbers], metric: str) -> Baseline:
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

    def choose_metric(
        self, labels: Sequence[str], wanted: Metric | None, columns: Columns | None = None
    ) -> Metric:
        """Choose the metric that decides which epoch is best.

        Args:
            labels: Labels of the task.
            wanted: Metric asked for, one of ``training.options.METRICS`` of the kind; None for the default.
            columns: Column of each role; None where nothing but an input is read.

        Raises:
            OptionsError: Labels or columns are not such that the metric can be measured.
        """
        return wanted or self.default_metric
