"""What has to be known of a task before its first input can be encoded."""

from dataclasses import dataclass
from typing import Self

from mask_store import Manifest, TaskKind


@dataclass(frozen=True)
class TaskSpec:
    """Kind, labels and input size of a task.

    Attributes:
        kind: One of the task kinds.
        pair: Sequence classification of two texts.
        labels: Class names by index; empty for multiple choice, whose classes are the choices.
        max_length: Tokens of one row at most, special tokens included.
    """

    kind: TaskKind
    pair: bool
    labels: tuple[str, ...]
    max_length: int

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The spec of a learned task."""
        return cls(manifest.kind, manifest.pair, manifest.labels, manifest.max_length)

    @property
    def outputs(self) -> int:
        """Rows of the classifier W_T: one per label, or one score per choice."""
        return 1 if self.kind == "multiple-choice" else len(self.labels)
