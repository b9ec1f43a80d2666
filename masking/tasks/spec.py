"""Task spec: what has to be known of a task before its first input can be encoded."""

from dataclasses import KW_ONLY, dataclass
from typing import Self

from mask_store import Manifest, Pooling, SignManifest, TaskKind, WordPiece


@dataclass(frozen=True)
class TaskSpec:
    """Kind, labels and input size of a task.

    Attributes:
        kind: One of the kinds of task.
        labels: Class names by index; empty for multiple choice, whose classes are the choices, and for
            embeddings.
        max_length: Tokens of one row at most, special tokens included.
        pair: Whether the inputs are pairs of texts.
        word_piece: At which wordpiece of a word its label is read, in token classification.
        thresholds: Of a multi-label classification, the score from which on each label is given; empty
            where that is 0.5 for all.
        pooling: What an embedding is made of; None for other kinds.
        width: Numbers of an embedding; 0 where the base is not known.
    """

    kind: TaskKind
    labels: tuple[str, ...]
    _: KW_ONLY
    max_length: int
    pair: bool = False
    word_piece: WordPiece = "last"
    thresholds: tuple[float, ...] = ()
    pooling: Pooling | None = None
    width: int = 0

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the spec of a learned task."""
        piece = (manifest.word_piece if isinstance(manifest, SignManifest) else None) or "last"
        return cls(
            manifest.kind,
            manifest.labels,
            max_length=manifest.max_length,
            pair=manifest.pair,
            word_piece=piece,
            thresholds=manifest.thresholds or (),
            pooling=manifest.pooling,
        )
