"""Evaluation: how well a task answers labelled rows, figure by figure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mask_store import (
    MAX_CLASSES,
    MAX_CONFUSION_LABELS,
    BinInfo,
    ClassInfo,
    EvaluationInfo,
    TaskKind,
)
from masking import EmbeddingPrediction, Prediction, TaskCodec, ValuesPrediction
from training.data.examples import ExampleSet
from training.data.features import EncodedExample
from training.judging.decisions import Decision, decisions_of
from training.kinds import TRAINING_KINDS, Baseline

WORST = 10
"""Errors that are kept."""

_BINS = 10
_MOST_VALUES = 1000
_WITH_CONFUSION = ("sequence-classification", "token-classification")
_WITH_CLASSES = (*_WITH_CONFUSION, "multi-label-classification")


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one label, and how often it is right."""

    label: str
    precision: float
    recall: float
    f1: float
    count: int


@dataclass(frozen=True)
class Confusion:
    """How often one label was right and this one, or the same, was predicted."""

    truth: str
    predicted: str
    count: int


@dataclass(frozen=True)
class Bin:
    """Answers of similar probability, and the share of them that came true."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class WorstError:
    """A wrong answer; see `training.judging.decisions.Decision`."""

    line: int
    text: str
    truth: str
    predicted: str
    score: float


@dataclass(frozen=True)
class Evaluation:
    """How well a task answers.

    Attributes:
        kind: Kind of task.
        file: What was read.
        examples: Rows that were answered.
        unusable: Rows that could not be used.
        metric: The metric that chose the task's epoch.
        metrics: Every metric of the kind by name.
        baseline: What `metric` is where everything gets one answer; of embeddings by the base alone.
        baseline_answer: That answer.
        classes: Figures of each label; empty for kinds without labels.
        confusion: Each truth and prediction that came, the most frequent first; empty for kinds without
            labels, and where an input may have several.
        calibration_error: Mean distance of probability and share that came true; None without probabilities.
        bins: Answers by probability.
        worst: The worst errors, the surest first.
        values: Of a regression (truth, predicted), of embeddings similarities and cosines, of some hundred of
            many; empty for other kinds.
    """

    kind: TaskKind
    file: str
    examples: int
    unusable: int
    metric: str
    metrics: Mapping[str, float]
    baseline: float
    baseline_answer: str
    classes: tuple[ClassScores, ...]
    confusion: tuple[Confusion, ...]
    calibration_error: float | None
    bins: tuple[Bin, ...]
    worst: tuple[WorstError, ...]
    values: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def beside(self, baseline: Baseline) -> "Evaluation":
        """Return the same evaluation beside another baseline."""
        return replace(self, baseline=baseline.value, baseline_answer=baseline.how)

    def matrix(self) -> list[list[int]]:
        """Return the confusion matrix: a row for each right label, a column for each predicted one."""
        labels = [one.label for one in self.classes]
        counts = {(one.truth, one.predicted): one.count for one in self.confusion}
        return [[counts.get((truth, predicted), 0) for predicted in labels] for truth in labels]

    def info(self) -> EvaluationInfo:
        """Return it in short, without anything of the rows, for a manifest."""
        classes = self.classes if len(self.classes) <= MAX_CLASSES else ()
        shown = self.confusion and len(self.classes) <= MAX_CONFUSION_LABELS
        return EvaluationInfo(
            metric=self.metric,
            examples=self.examples,
            baseline=self.baseline,
            baseline_answer=self.baseline_answer,
            classes=tuple(
                ClassInfo(precision=one.precision, recall=one.recall, f1=one.f1, count=one.count)
                for one in classes
            ),
            confusion=tuple(map(tuple, self.matrix())) if shown else (),
            calibration_error=self.calibration_error,
            bins=tuple(BinInfo(**asdict(one)) for one in self.bins),
        )


def judge(
    codec: TaskCodec,
    source: ExampleSet,
    examples: Sequence[EncodedExample],
    predictions: Sequence[Prediction],
    *,
    metric: str,
    worst: int = WORST,
) -> Evaluation:
    """Judge predictions.

    Args:
        codec: The task's codec.
        source: What the examples were made of.
        examples: At least one.
        predictions: A prediction for each.
        metric: The metric that chose the task's epoch; where it is not one of the kind's, the first is taken.
        worst: How many of the worst errors to keep.
    """
    kind, spec = TRAINING_KINDS[codec.spec.kind], codec.spec
    truth, inputs = [item.target for item in examples], [item.example.input for item in examples]
    metrics = kind.measure(spec.labels, truth, predictions, inputs)
    metric = metric if metric in metrics else next(iter(metrics))
    baseline = kind.baseline(spec.labels, truth, metric)
    decisions = [
        one
        for item, prediction in zip(examples, predictions, strict=True)
        for one in decisions_of(item, prediction, spec)
    ]
    bins = _bins(decisions)
    return Evaluation(
        kind=spec.kind,
        file=source.source,
        examples=len(examples),
        unusable=len(source.unusable),
        metric=metric,
        metrics=metrics,
        baseline=baseline.value,
        baseline_answer=baseline.how,
        classes=_classes(decisions, spec.labels) if spec.kind in _WITH_CLASSES else (),
        confusion=_confusion(decisions) if spec.kind in _WITH_CONFUSION else (),
        calibration_error=_calibration_error(bins),
        bins=bins,
        worst=_worst(decisions, worst),
        values=_values(spec.kind, examples, predictions),
    )


def _classes(decisions: Sequence[Decision], labels: Sequence[str]) -> tuple[ClassScores, ...]:
    right = Counter(one.truth for one in decisions if one.right)
    truth = Counter(one.truth for one in decisions)
    given = Counter(one.predicted for one in decisions)
    return tuple(_class_scores(label, right[label], truth[label], given[label]) for label in labels)


def _class_scores(label: str, right: int, truth: int, given: int) -> ClassScores:
    precision, recall = right / given if given else 0.0, right / truth if truth else 0.0
    f1 = 2 * right / (truth + given) if right else 0.0
    return ClassScores(label, precision, recall, f1, truth)


def _confusion(decisions: Sequence[Decision]) -> tuple[Confusion, ...]:
    counts = Counter((one.truth, one.predicted) for one in decisions)
    return tuple(Confusion(truth, predicted, count) for (truth, predicted), count in counts.most_common())


def _bins(decisions: Sequence[Decision]) -> tuple[Bin, ...]:
    found: dict[int, list[tuple[float, bool]]] = {}
    for one in decisions:
        if one.confidence is not None:
            confidence = min(one.confidence, 1.0)  # which rounding may exceed
            place = min(int(confidence * _BINS), _BINS - 1)
            found.setdefault(place, []).append((confidence, one.happened))
    return tuple(
        Bin(
            place / _BINS,
            (place + 1) / _BINS,
            len(own),
            min(sum(confidence for confidence, _ in own) / len(own), 1.0),
            sum(happened for _, happened in own) / len(own),
        )
        for place, own in sorted(found.items())
    )


def _calibration_error(bins: Sequence[Bin]) -> float | None:
    """Return the expected calibration error: the mean distance of probability and frequency."""
    total = sum(one.count for one in bins)
    if not total:
        return None
    return sum(one.count * abs(one.confidence - one.accuracy) for one in bins) / total


def _worst(decisions: Sequence[Decision], most: int) -> tuple[WorstError, ...]:
    wrong = sorted((one for one in decisions if not one.right), key=lambda one: -one.score)
    return tuple(
        WorstError(one.example.line, one.text, one.truth, one.predicted, one.score) for one in wrong[:most]
    )


def _values(
    kind: TaskKind, examples: Sequence[EncodedExample], predictions: Sequence[Prediction]
) -> tuple[tuple[float, float], ...]:
    """Return what is right and what was predicted, of as many rows as a picture can show."""
    step = -(-len(examples) // _MOST_VALUES)
    found: list[tuple[float, float]] = []
    for item, prediction in zip(examples[::step], predictions[::step], strict=True):
        if isinstance(prediction, ValuesPrediction) and kind == "regression":
            found += zip(map(float, item.target), map(float, prediction.scores), strict=True)
        elif isinstance(prediction, EmbeddingPrediction) and isinstance(item.target[0], float):
            found.append((item.target[0], prediction.similarity))
    return tuple(found)
