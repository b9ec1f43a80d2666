"""Acceptance: whether what was learned is better than always giving one answer, and so worth publishing."""

import logging
from collections.abc import Mapping, Sequence

from masking import ClassPrediction, EmbeddingPrediction, Prediction, ValuesPrediction
from training.errors import NothingLearnedError
from training.kinds import labels_of
from training.runs.preparation import Preparation

JUDGED_EXAMPLES = 30
"""Dev examples from which on a mask that learned nothing is refused; with fewer it may be chance."""

logger = logging.getLogger(__name__)


def accept(
    ready: Preparation, metrics: Mapping[str, float], predictions: Sequence[Prediction] | None = None
) -> None:
    """Make sure that something was learned; where dev is too small to judge, or by --force, only warn.

    Args:
        ready: The task.
        metrics: Dev metrics of what was learned.
        predictions: What it predicts for the dev examples, where that is known.

    Raises:
        NothingLearnedError: The dev metric is not above what always giving the most frequent answer has.
    """
    value, count = metrics[ready.metric], len(ready.encoded.dev)
    if is_learned(ready, metrics):
        return
    one = "; it predicts one class for every dev example" if predictions and _is_one(predictions) else ""
    found = (
        f"dev {ready.metric} {value:.4f} on {count} examples is not above {ready.baseline.value:.4f}, which "
        f"{ready.baseline.how} has{one}"
    )
    if count < JUDGED_EXAMPLES or ready.options.force:
        logger.warning(f"warning: nothing may be learned: {found}")
        return
    raise NothingLearnedError(found, ready.options.run_folder)


def is_learned(ready: Preparation, metrics: Mapping[str, float]) -> bool:
    """Tell whether the dev metric is above the baseline."""
    return metrics[ready.metric] > ready.baseline.value + 1e-9


def _is_one(predictions: Sequence[Prediction]) -> bool:
    classes = {
        label
        for one in predictions
        if not isinstance(one, ValuesPrediction | EmbeddingPrediction)
        for label in (labels_of(one.label) if isinstance(one, ClassPrediction) else one.labels)
    }
    return len(classes) == 1
