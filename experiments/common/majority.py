"""The score of always answering the most frequent label: what learning has to beat."""

from collections import Counter
from collections.abc import Sequence

from training.data.features import EncodedExample


def majority_value(examples: Sequence[EncodedExample], metric: str) -> float:
    """Return the score of the majority vote.

    Args:
        examples: at least one; words count one by one.
        metric: name of the metric.

    Returns:
        The share of the most frequent label for accuracy; 0 for metrics that give nothing for it.
    """
    if metric != "accuracy":
        return 0.0
    counts = Counter(index for example in examples for index in example.target)
    return counts.most_common(1)[0][1] / counts.total()
