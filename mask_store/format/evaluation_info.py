"""Evaluation info: what a manifest says, in short, of how a task answered its dev set."""

from typing import Annotated

from pydantic import FailFast, Field

from mask_store.format.mask_info import Count, ManifestPart, PositiveInteger, Text

MAX_CONFUSION_LABELS = 50
"""Labels up to which a writer of manifests puts the confusion matrix in."""
MAX_CLASSES = 1000
"""Labels up to which a writer of manifests puts figures of each label in."""

_Share = Annotated[float, Field(ge=0, le=1)]


class ClassInfo(ManifestPart):
    """Figures of one label.

    Attributes:
        precision: Share of the answers with this label that are right; 0 where there is none.
        recall: Share of what has this label that is answered with it; 0 where there is none.
        f1: Harmonic mean of both.
        count: How often it is the right answer.
    """

    precision: _Share
    recall: _Share
    f1: _Share
    count: Count


class BinInfo(ManifestPart):
    """Answers of similar probability.

    Attributes:
        low: Lowest probability of the bin.
        high: Where the next bin begins.
        count: Answers in it, at least one.
        confidence: Their mean probability.
        accuracy: Share of them that came true.
    """

    low: _Share
    high: _Share
    count: PositiveInteger
    confidence: _Share
    accuracy: _Share


class EvaluationInfo(ManifestPart):
    """How a task answered its dev set.

    Attributes:
        metric: The metric that chose the epoch, one of the manifest's `metrics`.
        examples: Rows of the dev set.
        baseline: What the metric is where everything gets one answer.
        baseline_answer: That answer, in words.
        classes: Figures of each label, in the order of the manifest's labels; empty for kinds without
            labels, and where there are too many.
        confusion: How often each label (row) was answered with each (column), in the order of the labels;
            empty where an input may have several labels, and as `classes`.
        calibration_error: Expected calibration error: mean distance of probability and share that came true;
            None for kinds without probabilities.
        bins: Answers by probability, ascending.
    """

    metric: Text
    examples: PositiveInteger
    baseline: float
    baseline_answer: Text
    classes: Annotated[tuple[ClassInfo, ...], FailFast()] = ()
    confusion: Annotated[tuple[Annotated[tuple[Count, ...], FailFast()], ...], FailFast()] = ()
    calibration_error: _Share | None = None
    bins: Annotated[tuple[BinInfo, ...], FailFast()] = ()

    def check_labels(self, labels: int) -> None:
        """Make sure that it is of so many labels.

        Raises:
            ValueError: It is not.
        """
        if self.classes and len(self.classes) != labels:
            raise ValueError(f"evaluation has {len(self.classes)} classes for {labels} labels")
        sizes = {len(self.confusion), *map(len, self.confusion)}
        if self.confusion and sizes != {labels}:
            raise ValueError(f"evaluation's confusion must be {labels} rows of {labels}")
