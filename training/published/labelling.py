"""Labelling: predictions of a published task beside the rows of a file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mask_store import TaskKind
from masking import (
    ClassPrediction,
    EmbeddingPrediction,
    LabelsPrediction,
    Prediction,
    TaskInput,
    ValuesPrediction,
)
from training.data.known_task import task_columns
from training.data.rows import Row, RowSet
from training.kinds import TRAINING_KINDS, Columns, TrainingKind
from training.kinds.fields import UnusableRowError
from training.options import Role
from training.published.task import PublishedTask

_AT_ONCE = 1024  # rows that are held with their predictions

Labelled = dict[str, Any]


def label_rows(
    published: PublishedTask, rows: RowSet, named: Mapping[Role, str | None], *, max_rows: int
) -> Iterable[Labelled]:
    """Predict every row of a file, as they are asked for.

    Args:
        published: The task.
        rows: The rows.
        named: Column per role as the user named it, None for the default.
        max_rows: Rows of a batch at most.

    Returns:
        Each row with ``predicted`` and its scores; ``predicted`` is None, and ``error`` says why, where a row
        can't be used.

    Raises:
        DataError: A column isn't there, or there are no rows.
    """
    kind = TRAINING_KINDS[published.task.spec.kind]
    columns = task_columns(rows, published.task.spec, published.named_columns(named), answers=False)
    return _labelled(published, rows, columns, kind, max_rows)


def _labelled(
    published: PublishedTask, rows: RowSet, columns: Columns, kind: TrainingKind, max_rows: int
) -> Iterator[Labelled]:
    for start in range(0, len(rows.rows), _AT_ONCE):
        piece = rows.rows[start : start + _AT_ONCE]
        given = [_read(row, columns, kind) for row in piece]
        usable = [one for one in given if not isinstance(one, str)]
        found = iter(published.predict(usable, max_rows=max_rows))
        for row, one in zip(piece, given, strict=True):
            if isinstance(one, str):
                yield {**row.values, "predicted": None, "error": one}
            else:
                yield {**row.values, **described(next(found), published.task.spec.labels)}


def answer_columns(kind: TaskKind) -> tuple[str, ...]:
    """Return the columns that `label_rows` adds for a kind of task."""
    match kind:
        case "regression" | "reranking" | "embedding":
            return ("predicted", "error")
        case "multi-label-classification" | "token-classification":
            return ("predicted", "predicted_scores", "error")
    return ("predicted", "predicted_score", "error")


def described(prediction: Prediction, labels: Sequence[str]) -> Labelled:
    """Return a prediction as fields of a row: of a text its embedding, of a pair of texts their cosine."""
    match prediction:
        case ClassPrediction():
            label = prediction.label if labels else prediction.index
            return {"predicted": label, "predicted_score": float(prediction.scores[prediction.index])}
        case LabelsPrediction():
            scores = dict(zip(labels, map(float, prediction.scores), strict=True))
            return {"predicted": list(prediction.labels), "predicted_scores": scores}
        case ValuesPrediction():
            values = [float(score) for score in prediction.scores]
            return {"predicted": values if len(values) > 1 else values[0]}
        case EmbeddingPrediction():
            single = prediction.logits.ndim == 1
            return {"predicted": prediction.scores.tolist() if single else prediction.similarity}
    return {"predicted": list(prediction.labels), "predicted_scores": prediction.label_scores}


def _read(row: Row, columns: Columns, kind: TrainingKind) -> TaskInput | str:
    """Return what a row asks, or why it can't be used."""
    try:
        return kind.read_input(row.values, columns)
    except UnusableRowError as error:
        return str(error)
