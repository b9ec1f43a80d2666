"""Embeddings in training: pairs of texts with a similarity, or pairs that belong together.

With a similarity the loss is the squared error of the cosine, as sentence-transformers' CosineSimilarityLoss;
without, the cross entropy of each first text's own partner among all second texts of the batch, as its
MultipleNegativesRankingLoss. Learned from a finetuned copy's embeddings, it is 1 minus the cosine to them.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from masking import EmbeddingPrediction, Features, Prediction, Row, TaskInput, TextInput
from masking.tasks.predictions import Floats, normalise
from training.errors import LabelError, OptionsError
from training.kinds.fields import UnusableRowError
from training.kinds.judgement import Judgement, Target
from training.kinds.kind import Baseline, ColumnNames, Columns, Reading, TargetNumbers, TrainingKind
from training.kinds.regression import NumberSettler, correlations, missing_number, read_numbers
from training.kinds.sequence_classification import PAIRS, read_texts
from training.options import Metric

_TOGETHER = 0
"""Target of a pair without a similarity."""
_MEASURED: Mapping[str, tuple[Metric, ...]] = {
    "label": ("spearman", "pearson"),
    "pair": ("accuracy", "mrr"),
    "text": ("cosine",),
}
"""Metrics by the last role that there is a column of."""
_SHARPNESS = 20.0  # factor of cosines before softmax, as in sentence-transformers


class Embedding(TrainingKind):
    """A text as a vector; see `TrainingKind`."""

    name = "embedding"
    has_classes = False
    columns: ClassVar[ColumnNames] = {
        "text": ("text", "sentence", "anchor", "query", "question", "content"),
        "pair": ("positive", "text_pair"),
        "label": ("score", "similarity_score", "similarity", "relatedness_score", "label"),
    }
    optional = frozenset({"pair", "label"})
    together: ClassVar[tuple[Columns, ...]] = (
        {"text": "anchor", "pair": "positive"},
        {"text": "query", "pair": "positive"},
        {"text": "text", "pair": "text_pair"},
        {"text": "title", "pair": "abstract"},
        *PAIRS,
    )

    def read_input(self, values: Mapping[str, object], columns: Columns) -> TextInput:
        """Read a text, or two where there is a column of the second."""
        return read_texts(values, columns)

    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read a text, or two, and their similarity where there is a column of it."""
        given = self.read_input(values, columns)
        if "label" not in columns:
            return Reading(given, _TOGETHER)
        numbers = read_numbers(values, columns["label"])
        if len(numbers) > 1:
            raise UnusableRowError(f"{columns['label']!r} must be one number, found {len(numbers)}")
        return Reading(given, numbers)

    def judge(
        self,
        readings: Sequence[tuple[TaskInput, Target]],
        missing: str | None,
        separator: str | None = None,
    ) -> Judgement:
        """Bring similarities to -1 to 1, by the largest one.

        Raises:
            LabelError: Rows have one text, or all the same similarity, or one below -1.
        """
        if any(isinstance(given, TextInput) and given.pair is None for given, _ in readings):
            raise LabelError(
                "rows have one text, and embeddings are learned from pairs: name the second text with "
                "--pair-column"
            )
        absent = None if missing is None else missing_number(missing)
        found = {float(target[0]) for _, target in readings if isinstance(target, tuple)} - {absent}
        if not found:
            return Judgement(lambda _, target: target, ("pairs belong together: there is no similarity",))
        if len(found) < 2 or min(found) < (-1 if max(found) <= 1 else 0):  # noqa: PLR2004
            raise LabelError(
                f"similarities must lie between -1 and 1, or begin at 0, and not be the same in every row; "
                f"found {min(found):g} to {max(found):g}"
            )
        largest = max(1.0, *found)
        told = f"similarities from {min(found):g} to {max(found):g}"
        notes = (told + (f", divided by {largest:g}" if largest > 1 else ""),)
        return Judgement(NumberSettler("similarity", absent, largest), notes)

    def count(self, target: TargetNumbers) -> int:
        """Return 1: the loss has one target for each pair."""
        return 1

    def targets(self, items: Sequence[tuple[Features, TargetNumbers]], shape: torch.Size) -> Tensor:
        """Return similarities, float32 [pairs], or which second texts belong to each first one.

        The latter is float32 [pairs, pairs]: 1 for its own, shared with those that are the same text.
        """
        if any(isinstance(target[0], float) for _, target in items):
            return torch.tensor([target[0] for _, target in items], dtype=torch.float32)
        numbers: dict[Row, int] = {}
        seconds = torch.tensor([numbers.setdefault(item.rows[1], len(numbers)) for item, _ in items])
        same = (seconds.unsqueeze(1) == seconds).float()
        return same / same.sum(dim=1, keepdim=True)

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        counts: Sequence[int],
        total: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss of a batch of embeddings; see the module and `TrainingKind.loss`.

        Args:
            logits: Float32 [rows, hidden], those of a pair one after the other.
            targets: From `targets`, NaN where nothing is to be predicted; or a copy's embeddings, float32
                [rows, hidden].
            counts: 2 of each pair, 1 of each text that a copy has answered.
            total: Pairs or texts of the whole step.
            weights: None, as there are no labels.
        """
        unit = functional.normalize(logits, dim=1)
        known = ~targets.isnan().reshape(len(targets), -1).any(dim=1)
        wanted = targets.nan_to_num()
        if counts[0] == 1:
            apart = 1 - (unit * functional.normalize(wanted, dim=1)).sum(dim=1)
        elif targets.ndim == 1:
            apart = ((unit[0::2] * unit[1::2]).sum(dim=1) - wanted).square()
        else:
            cosines = unit[0::2] @ unit[1::2].T
            apart = -(functional.log_softmax(_SHARPNESS * cosines, dim=1) * wanted).sum(dim=1)
        return (apart * known).sum() / total

    def measure(
        self,
        labels: Sequence[str],
        truth: Sequence[TargetNumbers],
        predictions: Sequence[Prediction],
        inputs: Sequence[TaskInput] = (),
    ) -> dict[str, float]:
        """Measure cosines of pairs against their similarities, or how well texts find their partners.

        With similarities ``spearman`` and ``pearson``. Without, of all second texts: ``accuracy``, how often
        a first text is nearest to its own, and ``mrr``, the mean of one over its place. Of single texts
        ``cosine``, the mean to a copy's embeddings.
        """
        found = [one.scores for one in predictions if isinstance(one, EmbeddingPrediction)]
        if found[0].ndim == 1:
            wanted = normalise(np.array(truth, np.float32))
            return {"cosine": float((np.stack(found) * wanted).sum(axis=1).mean())}
        first, second = (np.stack([one[place] for one in found]) for place in (0, 1))
        if isinstance(truth[0][0], float):
            similarities = np.array([target[0] for target in truth], np.float64)
            each = correlations(similarities, (first * second).sum(axis=1).astype(np.float64))
            return {name: each[name] for name in _MEASURED["label"]}
        places = partner_places(first, second)
        return {"accuracy": float((places == 1).mean()), "mrr": float((1 / places).mean())}

    def baseline(self, labels: Sequence[str], truth: Sequence[TargetNumbers], metric: str) -> Baseline:
        """Tell that one embedding for everything says nothing; see `TrainingKind`."""
        return Baseline(0.0, "one embedding for everything")

    def choose_metric(
        self, labels: Sequence[str], wanted: Metric | None, columns: Columns | None = None
    ) -> Metric:
        """Choose Spearman's correlation for similarities, accuracy for partners; see `TrainingKind`.

        Raises:
            OptionsError: The metric asked for is of the other.
        """
        given = next((role for role in ("label", "pair") if role in (columns or {})), "text")
        measured = _MEASURED[given]
        if wanted is not None and wanted not in measured:
            raise OptionsError([f"--metric {wanted}: not measured here; choose from {', '.join(measured)}"])
        return wanted or measured[0]


def partner_places(first: Floats, second: Floats) -> NDArray[np.int64]:
    """Return the place of each first text's partner among all second texts, the nearest being 1.

    Args:
        first: float32 [pairs, hidden], each of length 1.
        second: Likewise, the partners in the same order. Equal ones count as one.
    """
    own = (first * second).sum(axis=1)
    different = np.unique(second, axis=0)
    nearer = [int((different @ one > mine + 1e-6).sum()) for one, mine in zip(first, own, strict=True)]
    return np.array(nearer, np.int64) + 1
