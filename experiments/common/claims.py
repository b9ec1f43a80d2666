"""A claim of the paper, set against what was measured here by a rule that is stated."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and how it fared.

    Attributes:
        paper: what the paper says, in our words; a whole sentence.
        rule: what must hold of the numbers here for them to agree; completes "They agree where ...".
        holds: whether it does.
    """

    paper: str
    rule: str
    holds: bool

    @property
    def verdict(self) -> str:
        """``agrees`` or ``does not agree``."""
        return "agrees" if self.holds else "does not agree"

    def note(self, subject: str) -> str:
        """Return the claim, the rule and the verdict as one paragraph.

        Args:
            subject: what the numbers were measured on, such as a task.
        """
        return f"The paper: {self.paper} Rule: it agrees where {self.rule}. {subject}: {self.verdict}."

    def values(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {"paper": self.paper, "rule": self.rule, "agrees": self.holds}
