"""How a mask is learned: which blocks, and the one setting that range, threshold and head make together."""

import math
from dataclasses import dataclass
from typing import get_args

from mask_store import HeadMode, ScoreGradient, ScoreInit


@dataclass(frozen=True)
class MaskSettings:
    """Settings of the masking method (paper, section 3 and appendix B).

    Scores start uniform in [score_low, score_high); a bit is 1 where its score is at least `threshold`.
    `score_high` follows from the wanted initial share of zeros, so range and threshold stay one setting.
    What goes beyond the paper is off by default.

    Attributes:
        blocks: Transformer blocks to mask, counted from 0; None means from block 2 to the last.
        threshold: tau, the score from which a weight is kept.
        score_low: Lower end of the initial scores.
        initial_sparsity: Wanted initial share of zeros, between 0 and 1 (both excluded).
        head: "masked": a random, frozen, masked head (the paper); "trained": a trained, unmasked head.
        score_init: Which weight gets which initial score. "uniform": any (the paper); "magnitude": by rank of
            |W| in its layer, so that the smallest weights start as zeros and the next smallest flip first.
        score_gradient: What the gradient of a bit is times, to be its score's. "straight-through": 1 (the
            paper); "sigmoid": 4 s (1 - s), s = sigmoid((score - threshold) / temperature).
        temperature: Width of that sigmoid, in units of scores; None for straight-through.

    Raises:
        ValueError: A value is outside its range.
    """

    blocks: tuple[int, ...] | None = None
    threshold: float = 0.01
    score_low: float = -0.02
    initial_sparsity: float = 0.05
    head: HeadMode = "masked"
    score_init: ScoreInit = "uniform"
    score_gradient: ScoreGradient = "straight-through"
    temperature: float | None = None

    def __post_init__(self) -> None:
        """Checks every value, and names the one that is wrong."""
        if not (math.isfinite(self.threshold) and math.isfinite(self.score_low)):
            raise ValueError("threshold and score_low must be finite numbers")
        if self.score_low >= self.threshold:
            raise ValueError(f"score_low ({self.score_low}) must be below the threshold ({self.threshold})")
        if not 0.0 < self.initial_sparsity < 1.0:
            raise ValueError(f"initial_sparsity must be between 0 and 1, not {self.initial_sparsity}")
        for name, allowed in (
            ("head", HeadMode),
            ("score_init", ScoreInit),
            ("score_gradient", ScoreGradient),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {get_args(allowed)}, not {getattr(self, name)!r}")
        if (self.score_gradient == "sigmoid") != (self.temperature is not None):
            raise ValueError("temperature must be given for the sigmoid score_gradient, and for no other")
        if self.temperature is not None and not 0.0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be a number above 0, not {self.temperature}")

    @property
    def score_high(self) -> float:
        """Upper end of the initial scores: (tau - low) / p0 + low, 0.58 for the paper's setting."""
        return self.score_range + self.score_low

    @property
    def score_range(self) -> float:
        """Width of the range of the initial scores, 0.60 for the paper's setting."""
        return (self.threshold - self.score_low) / self.initial_sparsity
