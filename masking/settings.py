"""How a mask is learned: which blocks, and the one setting that range, threshold and head make together."""

import math
from dataclasses import dataclass

from mask_store import HeadMode


@dataclass(frozen=True)
class MaskSettings:
    """Settings of the masking method (paper, section 3 and appendix B).

    Scores start uniform in [score_low, score_high); a bit is 1 where its score is at least `threshold`.
    `score_high` follows from the wanted initial share of zeros, so range and threshold stay one setting.

    Attributes:
        blocks: Transformer blocks to mask, counted from 0; None means from block 2 to the last.
        threshold: tau, the score from which a weight is kept.
        score_low: Lower end of the initial scores.
        initial_sparsity: Wanted initial share of zeros, between 0 and 1 (both excluded).
        head: "masked": a random, frozen, masked head (the paper); "trained": a trained, unmasked head.

    Raises:
        ValueError: A value is outside its range.
    """

    blocks: tuple[int, ...] | None = None
    threshold: float = 0.01
    score_low: float = -0.02
    initial_sparsity: float = 0.05
    head: HeadMode = "masked"

    def __post_init__(self) -> None:
        """Checks every value, and names the one that is wrong."""
        if not (math.isfinite(self.threshold) and math.isfinite(self.score_low)):
            raise ValueError("threshold and score_low must be finite numbers")
        if self.score_low >= self.threshold:
            raise ValueError(f"score_low ({self.score_low}) must be below the threshold ({self.threshold})")
        if not 0.0 < self.initial_sparsity < 1.0:
            raise ValueError(f"initial_sparsity must be between 0 and 1, not {self.initial_sparsity}")
        if self.head not in ("masked", "trained"):
            raise ValueError(f"head must be 'masked' or 'trained', not {self.head!r}")

    @property
    def score_high(self) -> float:
        """Upper end of the initial scores: (tau - low) / p0 + low, 0.58 for the paper's setting."""
        return (self.threshold - self.score_low) / self.initial_sparsity + self.score_low
