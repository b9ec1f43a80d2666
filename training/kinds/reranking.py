"""Reranking in training: a query, a document, and how relevant the document is."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, ndcg_score
from torch import Tensor

from masking import Prediction, TaskInput, TextInput
from training.errors import LabelError
from training.kinds.fields import UnusableRowError, read_label, read_text
from training.kinds.judgement import Judgement, Target
from training.kinds.kind import Baseline, ColumnNames, Columns, Reading, TargetNumbers, TrainingKind
from training.kinds.multi_label import binary_loss
from training.kinds.regression import NumberSettler, missing_number, values_of

_RELEVANCE = ("relevance",)
_NAMES = {"true": 1.0, "false": 0.0, "relevant": 1.0, "irrelevant": 0.0, "not_relevant": 0.0}
_BEST = 10

RELEVANT = 0.5
"""Relevance from which a document counts as relevant."""


class Reranking(TrainingKind):
    """How relevant a document is to a query, by binary cross entropy; see `TrainingKind`."""

    name = "reranking"
    has_classes = False
    each_logit = True
    default_metric = "average_precision"
    columns: ClassVar[ColumnNames] = {
        "text": ("query", "question", "text", "sentence1", "anchor"),
        "pair": ("document", "passage", "text_pair", "sentence2", "sentence", "answer", "context"),
        "label": ("label", "relevance", "score", "labels"),
    }

    def read_input(self, values: Mapping[str, object], columns: Columns) -> TextInput:
        """Read a query and a document."""
        return TextInput(read_text(values, columns["text"]), read_text(values, columns["pair"]))

    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read a query, a document and a relevance: a number, or a truth value."""
        relevance = _relevance(read_label(values, columns["label"]))
        return Reading(self.read_input(values, columns), (relevance,))

    def judge(
        self,
        readings: Sequence[tuple[TaskInput, Target]],
        missing: str | None,
        separator: str | None = None,
    ) -> Judgement:
        """Bring grades to 0 to 1, by the largest one.

        Raises:
            LabelError: There is only one grade, or one below 0.
        """
        absent = None if missing is None else missing_number(missing)
        grades = {target[0] for _, target in readings if isinstance(target, tuple)} - {absent}
        numbers = [grade for grade in grades if isinstance(grade, float)]
        if len(numbers) < 2 or min(numbers) < 0:  # noqa: PLR2004
            raise LabelError(
                f"relevance must be 0 or more, and not the same in every row; found {sorted(numbers)[:3]}"
            )
        largest = max(1.0, *numbers)
        notes = (f"relevance is divided by {largest:g}, the largest",) if largest > 1 else ()
        return Judgement(NumberSettler("relevance", absent, largest), notes)

    def value_names(self, columns: Columns) -> tuple[str, ...]:
        """Return the name of the only logit."""
        return _RELEVANCE

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        counts: Sequence[int],
        total: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the binary cross entropy; see `TrainingKind.loss`."""
        return binary_loss(logits, targets) / total

    def measure(
        self,
        labels: Sequence[str],
        truth: Sequence[TargetNumbers],
        predictions: Sequence[Prediction],
        inputs: Sequence[TaskInput] = (),
    ) -> dict[str, float]:
        """Measure rankings of the documents of each query, and all pairs together.

        ``ndcg`` and ``mrr`` look at the best 10 documents of each query that has relevant ones and others;
        they are 0 where there is no such query. ``average_precision`` is over all pairs.
        """
        right, scores = np.array(truth, np.float64)[:, 0], values_of(predictions)[:, 0]
        by_query: dict[str, list[int]] = defaultdict(list)
        for place, given in enumerate(inputs):
            assert isinstance(given, TextInput)
            by_query[given.text].append(place)
        queries = [(right[places], scores[places]) for places in by_query.values()]
        mixed = [(r, s) for r, s in queries if (r >= RELEVANT).any() and not (r >= RELEVANT).all()]
        relevant = right >= RELEVANT
        return {
            "average_precision": float(average_precision_score(relevant, scores)) if relevant.any() else 0.0,
            "ndcg": _mean(float(ndcg_score([r], [s], k=_BEST)) for r, s in mixed),
            "mrr": _mean(_reciprocal_rank(r, s) for r, s in mixed),
        }

    def baseline(self, labels: Sequence[str], truth: Sequence[TargetNumbers], metric: str) -> Baseline:
        """Tell the average precision of chance; rankings have no answer for everything."""
        share = sum(target[0] >= RELEVANT for target in truth) / len(truth)
        value = share if metric == "average_precision" else 0.0
        return Baseline(value, "the same relevance for everything")


def _relevance(label: str) -> float:
    name = label.lower()
    try:
        return _NAMES[name] if name in _NAMES else float(name)
    except ValueError:
        raise UnusableRowError(
            f"relevance {label!r} is not a number or a truth value, such as 0 and 1 or false and true"
        ) from None


def _reciprocal_rank(right: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    best = np.argsort(-scores, kind="stable")[:_BEST]
    ranks = np.flatnonzero(right[best] >= RELEVANT)
    return 1.0 / (int(ranks[0]) + 1) if ranks.size else 0.0


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
