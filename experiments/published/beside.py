"""The paper's numbers beside ours: compared on its bases, an aside on others.

Ours are compared where base, rows, settings and seeds are the paper's, with a difference and a tolerance.
Otherwise the numbers of its BERT stand there for orientation, and nothing is compared.
"""

from dataclasses import dataclass
from math import hypot
from typing import Self

from experiments.published.facts import BERT, NOT_PRINTED, Cell, paper_base

_MIN_TOLERANCE = 1.0


@dataclass(frozen=True)
class Beside:
    """What of the paper stands beside one base's numbers.

    Attributes:
        base: The paper's base whose numbers are shown.
        compared: Whether ours are compared with them.
    """

    base: str
    compared: bool

    @classmethod
    def of(cls, base: str, *, full: bool) -> Self:
        """Choose by our base.

        Args:
            base: Hub id or folder.
            full: Whether rows, settings and seeds are the paper's.
        """
        own = paper_base(base)
        return cls(own or BERT, own is not None and full)

    @property
    def note(self) -> str:
        """What a reader must know of the columns ``paper``."""
        if not self.compared:
            return (
                f'"paper" is an aside: the paper\'s numbers for {self.base} on all rows. "{NOT_PRINTED}": it '
                "prints none."
            )
        return (
            f'"paper" is the same base and setting there, and the difference is ours less the paper\'s. '
            f"It is within tolerance up to {_MIN_TOLERANCE:.0f} point or twice the root of the sum of both "
            "squared standard deviations, whichever is more; ours are by n - 1, the paper says no divisor. "
            f'"{NOT_PRINTED}": it prints none.'
        )

    def difference(self, mean: float, std: float | None, cell: Cell | None) -> str:
        """Write ours less the paper's, and whether that is within tolerance.

        Args:
            mean: Ours, in the paper's unit.
            std: Our standard deviation; None for one seed.
            cell: The paper's; None where it prints none.
        """
        if cell is None or not self.compared:
            return NOT_PRINTED
        gap, allowed = mean - cell.mean, tolerance(std or 0.0, cell.std)
        return f"{gap:+.2f}, {'within' if abs(gap) <= allowed else 'beyond'} {allowed:.2f}"


def tolerance(ours: float, papers: float) -> float:
    """Return how many points two means may differ, given both standard deviations in points."""
    return max(_MIN_TOLERANCE, 2 * hypot(ours, papers))


def printed(cell: Cell | None) -> str:
    """Write a cell as the paper does: ``86.1 ± 0.8``."""
    return NOT_PRINTED if cell is None else f"{cell.mean:.1f} ± {cell.std:.1f}"
