"""Token classification in training: words, and a tag for each."""

import logging
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from sklearn.metrics import accuracy_score
from torch import Tensor

from masking import Features, Prediction, TaskInput, WordsInput, WordsPrediction, tag_scheme
from training.errors import OptionsError
from training.kinds.entity_f1 import entity_f1
from training.kinds.fields import UnusableRowError, checked_texts, label_of, read_list
from training.kinds.kind import IGNORED, ColumnNames, Columns, Reading, TargetNumbers, TrainingKind
from training.options import Metric

logger = logging.getLogger(__name__)

_NO_SCHEME = "the tags follow no scheme of prefixes (IOB, IOBES, BILOU, BMES)"


class TokenClassification(TrainingKind):
    """One label for each word, learned at its last wordpiece; see `TrainingKind`."""

    name = "token-classification"
    columns: ClassVar[ColumnNames] = {
        "tokens": ("tokens", "words"),
        "tags": ("tags", "ner_tags", "labels", "pos_tags"),
    }

    def read_input(self, values: Mapping[str, object], columns: Columns) -> WordsInput:
        """Read words; those that are white space alone are passed over."""
        words = [word for word in read_list(values, columns["tokens"]) if not _is_space(word)]
        if not words:
            raise UnusableRowError(f"{columns['tokens']!r} is empty")
        return WordsInput(checked_texts(words, columns["tokens"]))

    def read(self, values: Mapping[str, object], columns: Columns) -> Reading:
        """Read words and as many tags; words that are white space alone are passed over, with their tags."""
        words, tags = (read_list(values, columns[role]) for role in ("tokens", "tags"))
        if len(words) != len(tags):
            raise UnusableRowError(f"{len(words)} tokens but {len(tags)} tags")
        seen = [pair for pair in zip(words, tags, strict=True) if not _is_space(pair[0])]
        if not seen:
            raise UnusableRowError(f"{columns['tokens']!r} is empty")
        remark = "tokens of white space are passed over" if len(seen) < len(words) else ""
        return Reading(
            WordsInput(checked_texts((word for word, _ in seen), columns["tokens"])),
            tuple(label_of(tag, f"a tag in {columns['tags']!r}") for _, tag in seen),
            remark,
        )

    def targets(self, items: Sequence[tuple[Features, TargetNumbers]], shape: torch.Size) -> Tensor:
        """Put each word's label on its last wordpiece and `IGNORED` everywhere else: int64 [rows, tokens]."""
        targets = torch.full(shape, IGNORED)
        first_row = 0
        for features, labels in items:
            for (row, token), label in zip(features.positions, labels, strict=True):
                targets[first_row + row, token] = label
            first_row += len(features.rows)
        return targets

    def soft_targets(self, items: Sequence[tuple[Features, Tensor]], shape: torch.Size) -> Tensor:
        """Put each word's probabilities on its last wordpiece, and 0 everywhere else."""
        targets = torch.zeros(*shape, items[0][1].shape[-1])
        first_row = 0
        for features, probabilities in items:
            for (row, token), own in zip(features.positions, probabilities, strict=True):
                targets[first_row + row, token] = own
            first_row += len(features.rows)
        return targets

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        counts: Sequence[int],
        total: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the cross entropy over the labelled tokens; see `TrainingKind.loss`."""
        return super().loss(logits.flatten(0, 1), targets.flatten(0, 1), counts, total, weights)

    def measure(
        self,
        labels: Sequence[str],
        truth: Sequence[TargetNumbers],
        predictions: Sequence[Prediction],
        inputs: Sequence[TaskInput] = (),
    ) -> dict[str, float]:
        """Measure accuracy over all words, and F1 over whole entities where the tags mark any."""
        found = [one for one in predictions if isinstance(one, WordsPrediction)]
        metrics = {
            "accuracy": float(
                accuracy_score(
                    [index for target in truth for index in target],
                    [index for one in found for index in one.indices],
                )
            )
        }
        scheme = tag_scheme(tuple(labels))
        if scheme.name:
            right = [[labels[index] for index in target] for target in truth]
            metrics["f1"] = entity_f1(right, [one.labels for one in found], scheme)
        return metrics

    def choose_metric(
        self, labels: Sequence[str], wanted: Metric | None, columns: Columns | None = None
    ) -> Metric:
        """Choose F1 over entities by default where the tags mark any; see `TrainingKind`.

        Raises:
            OptionsError: Entity F1 is asked for, but the tags mark no entities.
        """
        scheme = tag_scheme(tuple(labels)).name
        if wanted == "f1" and not scheme:
            raise OptionsError([f"--metric f1 counts entities, but {_NO_SCHEME}: {', '.join(labels[:8])}"])
        if wanted is None:
            why = f"the tags mark entities by {scheme} prefixes" if scheme else _NO_SCHEME
            logger.info("metric: %s, as %s", "entity F1" if scheme else "accuracy", why)
        return wanted or ("f1" if scheme else "accuracy")


def _is_space(word: object) -> bool:
    return isinstance(word, str) and not word.strip()
