"""Dev metrics: accuracy, Matthews correlation (scikit-learn) and micro-F1 over entities.

Measures predictions that were made elsewhere; the choice of the one metric that decides over epochs is here
too.
"""

from collections.abc import Sequence

from sklearn.metrics import accuracy_score, matthews_corrcoef

from mask_store import TaskKind
from training.errors import OptionsError
from training.kinds.entity_f1 import entity_f1
from training.options import METRICS, Metric


def is_iob2(labels: Sequence[str]) -> bool:
    """Tell whether tags mark entities in IOB2: ``O``, ``B-X``, and ``I-X`` only where there is a ``B-X``."""
    begun = {label[2:] for label in labels if label.startswith("B-")}
    return bool(begun) and all(
        label == "O" or (label[:2] in {"B-", "I-"} and label[2:] in begun) for label in labels
    )


def choose_metric(kind: TaskKind, labels: Sequence[str], wanted: Metric | None) -> Metric:
    """Choose the metric that decides which epoch is best.

    Args:
        kind: kind of task.
        labels: labels of the task.
        wanted: metric asked for, one of ``METRICS[kind]``; None for the default: entity F1 where the labels
            are IOB2 tags, otherwise accuracy.

    Raises:
        OptionsError: entity F1 is asked for, but the labels are no IOB2 tags.
    """
    entities = kind == "token-classification" and is_iob2(labels)
    if wanted == "f1" and not entities:
        shown = ", ".join(labels[:8])
        raise OptionsError(
            [f"--metric f1 counts entities, which need IOB2 tags (O, B-X, I-X); these are {shown}"]
        )
    return wanted or ("f1" if entities else "accuracy")


def measure_classes(kind: TaskKind, truth: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Measure one label an example.

    Args:
        kind: kind of task, one whose examples have one label each.
        truth: the right label of each example.
        predicted: the predicted one.

    Returns:
        Every metric of the kind by name.
    """
    metrics = {"accuracy": float(accuracy_score(truth, predicted))}
    if "matthews_correlation" in METRICS[kind]:
        metrics["matthews_correlation"] = float(matthews_corrcoef(truth, predicted))
    return metrics


def measure_words(
    labels: Sequence[str], truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Measure one label a word.

    Args:
        labels: labels of the task.
        truth: the right labels of each example's words.
        predicted: the predicted ones, as many.

    Returns:
        ``accuracy`` over all words, and for IOB2 tags ``f1`` over whole entities, micro-averaged.
    """
    flat_truth = [label for words in truth for label in words]
    flat_predicted = [label for words in predicted for label in words]
    metrics = {"accuracy": float(accuracy_score(flat_truth, flat_predicted))}
    if is_iob2(labels):
        metrics["f1"] = entity_f1(truth, predicted)
    return metrics
