"""Rules: the paper's claims as conditions on numbers, to which the paper's own and ours are put alike.

A rule says what the paper claims, when numbers agree with it, and decides. The rules are in `tables`,
`figures` and `analysis` beside this module; thresholds are ours, and hold on the paper's numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Numbers = TypeVar("Numbers")

_MANY = 1000  # written without decimals
_SLACK = 1e-9  # decimal differences that are equal to a bound differ from it in binary


@dataclass(frozen=True)
class Finding:
    """What a rule finds in numbers.

    Attributes:
        values: What it looks at, by a short name.
        holds: Whether the numbers agree with the claim; None where they lack what the rule asks for.
    """

    values: Mapping[str, float]
    holds: bool | None


@dataclass(frozen=True)
class Verdict:
    """A rule's finding on some numbers.

    Attributes:
        id: The rule's id.
        claim: What the paper says.
        condition: When numbers agree.
        subject: What the numbers were measured on, such as a base.
        finding: What was found.
    """

    id: str
    claim: str
    condition: str
    subject: str
    finding: Finding

    @property
    def word(self) -> str:
        """``agrees``, ``does not agree`` or ``not measured``."""
        return {True: "agrees", False: "does not agree", None: "not measured"}[self.finding.holds]

    @property
    def shown(self) -> str:
        """The values as one line."""
        return "; ".join(f"{name} {_short(value)}" for name, value in self.finding.values.items())

    def note(self) -> str:
        """Return claim, condition, values and verdict as one paragraph."""
        values = f" ({self.shown})" if self.finding.values else ""
        return (
            f"{self.id}. The paper: {self.claim} Agrees where {self.condition}. "
            f"{self.subject}: {self.word}{values}."
        )

    def record(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {
            "rule": self.id,
            "subject": self.subject,
            "values": dict(self.finding.values),
            "agrees": self.finding.holds,
        }


def _nothing_printed() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Rule(Generic[Numbers]):
    """One claim of the paper.

    Attributes:
        id: Table or figure and a letter, such as ``T1a``.
        claim: What the paper says, in our words; a whole sentence.
        condition: What must hold of numbers for them to agree; completes "Agrees where ...".
        judge: Decides over numbers.
        printed: Gives the paper's own numbers by subject; nothing where it prints none.
    """

    id: str
    claim: str
    condition: str
    judge: Callable[[Numbers], Finding]
    printed: Callable[[], Mapping[str, Numbers]] = field(default=_nothing_printed)

    def verdict(self, subject: str, numbers: Numbers) -> Verdict:
        """Decide over numbers that were measured on `subject`."""
        return Verdict(self.id, self.claim, self.condition, subject, self.judge(numbers))

    def on_paper(self) -> list[Verdict]:
        """Decide over the paper's own numbers, by subject."""
        return [self.verdict(subject, numbers) for subject, numbers in self.printed().items()]


def at_least(value: float, bound: float) -> bool:
    """Tell whether a value reaches a bound, to a binary fraction's error."""
    return value >= bound - _SLACK


def at_most(value: float, bound: float) -> bool:
    """Tell whether a value does not exceed a bound, to a binary fraction's error."""
    return value <= bound + _SLACK


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _MANY else f"{value:.4g}"
