"""Judging: how well a published task answers labelled rows, figure by figure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from masking import (
    ChoiceInput,
    ClassPrediction,
    EmbeddingPrediction,
    LabelsPrediction,
    Prediction,
    TaskInput,
    TaskSpec,
    TextInput,
    ValuesPrediction,
    WordsInput,
    WordsPrediction,
)
from training.data.examples import ExampleSet
from training.data.features import EncodedExample, encode_examples
from training.kinds import BASE_ALONE, TRAINING_KINDS, Baseline
from training.loop.evaluation import measure
from training.published.task import PublishedTask

_BINS = 10
_RELEVANT = 0.5


@dataclass(frozen=True)
class Decision:
    """One answer beside the right one: of an example, of a word, or of one label of an example.

    Attributes:
        line: Where the example stands in its file.
        text: What was asked, in short.
        truth: The right answer.
        predicted: The one that was given.
        score: Its probability; of a value how far it is from the truth.
        right: Whether it is right.
        confidence: Probability of what `happened`; None where there is none.
        happened: Whether what the confidence is of is so.
    """

    line: int
    text: str
    truth: str
    predicted: str
    score: float
    right: bool
    confidence: float | None = None
    happened: bool = False


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of one label, and how often it is right."""

    label: str
    precision: float
    recall: float
    f1: float
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
class Evaluation:
    """How well a task answers.

    Attributes:
        task: Name of the task.
        version: Number of the version.
        digest: Digest of its bundle.
        kind: Kind of task.
        file: What was read.
        examples: Rows that were answered.
        unusable: Rows that could not be used.
        metric: The metric that chose the task's epoch.
        metrics: Every metric of the kind by name.
        baseline: What `metric` is where everything gets one answer; of embeddings by the base itself.
        baseline_answer: That answer.
        classes: Figures of each label; empty for kinds without labels.
        confusion: How often (truth, predicted) came, for all that did; empty for several labels and values.
        calibration_error: Mean distance of probability and share that came true; None without probabilities.
        bins: Answers by probability.
        worst: The worst errors, the surest first.
        values: Of a regression (truth, predicted), of embeddings likewise similarities and cosines; empty for
            other kinds.
    """

    task: str
    version: int
    digest: str
    kind: str
    file: str
    examples: int
    unusable: int
    metric: str
    metrics: Mapping[str, float]
    baseline: float
    baseline_answer: str
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[str, str, int], ...]
    calibration_error: float | None
    bins: tuple[Bin, ...]
    worst: tuple[Decision, ...]
    values: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything but `values` as JSON values."""
        fields = asdict(self)
        del fields["values"]
        fields["confusion"] = [
            {"truth": truth, "predicted": predicted, "count": count}
            for truth, predicted, count in self.confusion
        ]
        for error in fields["worst"]:
            del error["right"], error["confidence"], error["happened"]
        return fields


def judge_task(published: PublishedTask, examples: ExampleSet, *, max_rows: int, worst: int) -> Evaluation:
    """Predict labelled rows and judge the answers.

    Args:
        published: The task.
        examples: The rows; labels are those that the task knows.
        max_rows: Rows of a batch at most.
        worst: How many of the worst errors to keep.
    """
    task, kind = published.task, TRAINING_KINDS[published.task.spec.kind]
    labels, manifest = task.spec.labels, task.manifest
    encoded = encode_examples(examples, task.codec)
    predictions = published.predict([item.example.input for item in encoded], max_rows=max_rows)
    metrics = measure(task.codec, encoded, predictions)
    metric = getattr(manifest, "metric", "")
    metric = metric if metric in metrics else next(iter(metrics))
    if task.spec.pooling is None:
        baseline = kind.baseline(labels, [item.target for item in encoded], metric)
    else:
        bare = replace(published, task=task.bare())
        found = bare.predict([item.example.input for item in encoded], max_rows=max_rows)
        baseline = Baseline(measure(task.codec, encoded, found)[metric], BASE_ALONE)
    decisions = [
        one
        for item, prediction in zip(encoded, predictions, strict=True)
        for one in _decisions(item, prediction, task.spec)
    ]
    bins = _bins(decisions)
    return Evaluation(
        task=manifest.task,
        version=published.number,
        digest=task.digest,
        kind=task.spec.kind,
        file=examples.source,
        examples=len(encoded),
        unusable=len(examples.unusable),
        metric=metric,
        metrics=metrics,
        baseline=baseline.value,
        baseline_answer=baseline.how,
        classes=_classes(decisions, labels, task.spec.kind),
        confusion=_confusion(decisions) if task.spec.kind in _WITH_CLASSES else (),
        calibration_error=_calibration_error(bins),
        bins=bins,
        worst=_worst(decisions, worst),
        values=_values(encoded, predictions),
    )


_WITH_CLASSES = ("sequence-classification", "token-classification")


def _decisions(item: EncodedExample, prediction: Prediction, spec: TaskSpec) -> Iterator[Decision]:
    match prediction:
        case ClassPrediction():
            yield _of_class(item, prediction, spec.labels)
        case WordsPrediction():
            yield from _of_words(item, prediction, spec.labels)
        case LabelsPrediction():
            yield from _of_labels(item, prediction, spec.labels)
        case ValuesPrediction():
            yield from _of_values(item, prediction, ranks=spec.kind == "reranking")
        case EmbeddingPrediction():
            yield _of_similarity(item, prediction)


def _of_class(item: EncodedExample, prediction: ClassPrediction, labels: Sequence[str]) -> Decision:
    line, text = item.example.line, _in_short(item.example.input)
    (index,) = item.target
    truth, score = labels[index] if labels else str(index), float(prediction.scores.max())
    right = prediction.index == index
    return Decision(line, text, truth, prediction.label, score, right, score, right)


def _of_words(item: EncodedExample, prediction: WordsPrediction, labels: Sequence[str]) -> Iterator[Decision]:
    given = item.example.input
    assert isinstance(given, WordsInput)
    line, text = item.example.line, _in_short(given)
    answers = zip(given.words, item.target, prediction.indices, prediction.label_scores, strict=True)
    for word, truth, index, score in answers:
        right = truth == index
        yield Decision(line, f"{word}: {text}", labels[truth], labels[index], score, right, score, right)


def _of_labels(
    item: EncodedExample, prediction: LabelsPrediction, labels: Sequence[str]
) -> Iterator[Decision]:
    line, text = item.example.line, _in_short(item.example.input)
    for index, (label, truth) in enumerate(zip(labels, item.target, strict=True)):
        score, given = float(prediction.scores[index]), index in prediction.indices
        right, found = (label if one else f"not {label}" for one in (truth, given))
        sure = score if given else 1 - score
        yield Decision(line, text, right, found, sure, given == bool(truth), score, bool(truth))


def _of_values(item: EncodedExample, prediction: ValuesPrediction, *, ranks: bool) -> Iterator[Decision]:
    line, text = item.example.line, _in_short(item.example.input)
    for truth, value in zip(item.target, map(float, prediction.scores), strict=True):
        happened = ranks and truth >= _RELEVANT
        right = ranks and happened == (value >= _RELEVANT)
        confidence = value if ranks else None
        distance = abs(value - truth)
        yield Decision(line, text, f"{truth:g}", f"{value:.4g}", distance, right, confidence, happened)


def _of_similarity(item: EncodedExample, prediction: EmbeddingPrediction) -> Decision:
    """Hold the cosine of a pair against its similarity; of pairs that belong together against 1."""
    (given,) = item.target
    truth, cosine = given if isinstance(given, float) else 1.0, prediction.similarity
    text, distance = _in_short(item.example.input), abs(cosine - truth)
    return Decision(item.example.line, text, f"{truth:g}", f"{cosine:.4g}", distance, right=False)


def _classes(decisions: Sequence[Decision], labels: Sequence[str], kind: str) -> tuple[ClassScores, ...]:
    several = kind == "multi-label-classification"
    if kind not in _WITH_CLASSES and not several:
        return ()
    right = Counter(one.truth for one in decisions if one.right)
    truth, given = (
        Counter(names) for names in zip(*((d.truth, d.predicted) for d in decisions), strict=True)
    )
    return tuple(_class_scores(label, right[label], truth[label], given[label]) for label in labels)


def _class_scores(label: str, right: int, truth: int, given: int) -> ClassScores:
    precision, recall = right / given if given else 0.0, right / truth if truth else 0.0
    f1 = 2 * right / (truth + given) if right else 0.0
    return ClassScores(label, precision, recall, f1, truth)


def _confusion(decisions: Sequence[Decision]) -> tuple[tuple[str, str, int], ...]:
    counts = Counter((one.truth, one.predicted) for one in decisions)
    return tuple((truth, predicted, count) for (truth, predicted), count in counts.most_common())


def _bins(decisions: Sequence[Decision]) -> tuple[Bin, ...]:
    found: dict[int, list[tuple[float, bool]]] = {}
    for one in decisions:
        if one.confidence is not None:
            place = min(int(one.confidence * _BINS), _BINS - 1)
            found.setdefault(place, []).append((one.confidence, one.happened))
    return tuple(
        Bin(
            place / _BINS,
            (place + 1) / _BINS,
            len(own),
            sum(confidence for confidence, _ in own) / len(own),
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


def _worst(decisions: Sequence[Decision], most: int) -> tuple[Decision, ...]:
    wrong = sorted((one for one in decisions if not one.right), key=lambda one: -one.score)
    return tuple(wrong[:most])


def _values(
    encoded: Sequence[EncodedExample], predictions: Sequence[Prediction]
) -> tuple[tuple[float, float], ...]:
    found: list[tuple[float, float]] = []
    for item, prediction in zip(encoded, predictions, strict=True):
        if isinstance(prediction, ValuesPrediction):
            found += zip(map(float, item.target), map(float, prediction.scores), strict=True)
        elif isinstance(prediction, EmbeddingPrediction) and isinstance(item.target[0], float):
            found.append((item.target[0], prediction.similarity))
    return tuple(found)


def _in_short(given: TaskInput) -> str:
    match given:
        case TextInput(text, pair):
            return text if pair is None else f"{text} | {pair}"
        case ChoiceInput(context, choices):
            return " | ".join((context, *choices))
    return " ".join(given.words)
