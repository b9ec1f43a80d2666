"""Rate search: the learning rate that is best on dev, on a grid that extends itself (paper, section 4).

The grid grows by a step at its lower or upper end until the best rate is not on its border, and at both while
no rate beats the majority vote by more than chance (`chance_level`); of several seeds the mean counts. Which
command searches, and what for, is decided elsewhere.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from training.errors import OptionsError, SearchError
from training.options import Method

if TYPE_CHECKING:  # torch takes seconds to import, which a grid doesn't need
    from training.runs.preparation import Preparation
    from training.runs.results import Result
    from training.runs.runner import Runner

logger = logging.getLogger(__name__)

FACTOR = 2.0
MAX_RUNS = 12
PAPER_MAX_RUNS = 25
_DIGITS = (1, 3, 5, 7, 9)
_LEAST_STEP = 0.001  # rates have six digits
_START = (1e-5, 3e-5, 5e-5, 7e-5, 9e-5)


@dataclass(frozen=True)
class Grid:
    """Grid of learning rates: where a search starts and how it is extended.

    Attributes:
        rates: Learning rates to start with, rising.
        factor: Step from the border to the next rate; None for the paper's grid, whose rates are 1, 3, 5, 7
            and 9 times each power of ten.
        max_runs: Rates to try at most, those that are known from earlier included; those to start with are
            tried in any case.

    Raises:
        OptionsError: When built with values that don't make sense; lists every mistake.
    """

    rates: tuple[float, ...]
    factor: float | None = FACTOR
    max_runs: int = MAX_RUNS

    def __post_init__(self) -> None:
        """Check everything at once."""
        given = " ".join(f"{rate:g}" for rate in self.rates)
        positive = all(0 < rate < math.inf for rate in self.rates)
        checks = [
            (positive, f"--grid {given}: rates must lie above 0"),
            (
                self.factor is not None or not positive or all(_at(_place(r)) == r for r in self.rates),
                f"--grid {given}: the paper's grid has 1, 3, 5, 7 and 9 times powers of ten",
            ),
            (
                self.factor is None or 1 + _LEAST_STEP <= self.factor < math.inf,
                f"--factor {self.factor}: must be at least {1 + _LEAST_STEP:g}",
            ),
            (
                self.max_runs >= len(self.rates),
                f"--max-runs {self.max_runs}: the grid alone has {len(self.rates)} rates",
            ),
        ]
        problems = [message for good, message in checks if not good]
        if problems:
            raise OptionsError(problems)

    @classmethod
    def around(cls, lr: float, *, factor: float = FACTOR, max_runs: int = MAX_RUNS) -> "Grid":
        """Make a grid of a rate and its neighbours on both sides."""
        return cls((rounded(lr / factor), rounded(lr), rounded(lr * factor)), factor, max_runs)

    @classmethod
    def paper(cls, max_runs: int = PAPER_MAX_RUNS) -> "Grid":
        """Make the paper's grid (section 4), which starts as 1, 3, 5, 7 and 9 times 1e-5."""
        return cls(_START, None, max_runs)

    def in_order(self) -> list[float]:
        """Return the rates from the middle outwards: likely ones first, for the rest to be held against."""
        middle = math.log(self.rates[len(self.rates) // 2])
        return sorted(self.rates, key=lambda rate: abs(math.log(rate) - middle))

    def beyond(self, found: "Found") -> list[float]:
        """Return the rates that extend a search past its best one; none where that is not on the border.

        While nothing is learned, no rate is better than another, and the search goes on both ways; but where
        every run diverged, lower is the way.
        """
        low, high = found.trials[0].lr, found.trials[-1].lr
        if not math.isfinite(found.best.value):
            return [self._step(low, -1)]
        lower = [self._step(low, -1)] if found.best.lr == low or found.nothing_learned else []
        higher = [self._step(high, 1)] if found.best.lr == high or found.nothing_learned else []
        return lower + higher

    def _step(self, rate: float, way: int) -> float:
        return _at(_place(rate) + way) if self.factor is None else rounded(rate * self.factor**way)


@dataclass(frozen=True)
class Trial:
    """One rate that was tried.

    Attributes:
        lr: The rate.
        runs: Its run with each seed; at least one.
    """

    lr: float
    runs: "tuple[Result, ...]"

    @property
    def value(self) -> float:
        """Mean dev value over the seeds; minus infinity where a run diverged."""
        return fmean(run.value for run in self.runs)

    def __str__(self) -> str:
        """Write the rate on a line with its one run, or with the mean over the seeds."""
        if len(self.runs) == 1:
            return str(self.runs[0])
        mean = f"mean {self.value:.4f}" if math.isfinite(self.value) else "diverged"
        return f"lr {self.lr:g}: dev {self.runs[0].metric} {mean} over {len(self.runs)} seeds"


@dataclass(frozen=True)
class Found:
    """Trials of a search so far.

    Attributes:
        trials: Every trial, by rising rate; at least one.
        chance: Dev value that is reached without learning, see `chance_level`.
    """

    trials: tuple[Trial, ...]
    chance: float = -math.inf

    @property
    def best(self) -> Trial:
        """The trial with the best value; of several with equal values the middle one by rate."""
        top = max(trial.value for trial in self.trials)
        equal = [trial for trial in self.trials if trial.value == top]
        return equal[len(equal) // 2]

    @property
    def nothing_learned(self) -> bool:
        """Whether no rate is better than chance."""
        return self.best.value <= self.chance


def search(
    ready: "Preparation", method: Method, grid: Grid, runner: "Runner", seeds: Sequence[int] | None = None
) -> Found:
    """Search the learning rate; no run that the runner's results hold is made again.

    Where the grid grows by a factor, every rate that they hold counts, from whatever search it came. On the
    paper's grid only those that the search comes to count, so that none between two of them is left out.

    Args:
        ready: The task and its settings; its rate is not used.
        method: How to learn it.
        grid: Where to start and how to extend it.
        runner: Makes the runs.
        seeds: Seeds to run each rate with; None for the seed of the settings.

    Returns:
        All trials of these settings. The best one is on the border only if `grid.max_runs` ended the search.

    Raises:
        SearchError: Every rate diverged.
        TrainingError, MaskingError: As in `training.runs.learn.learn`.
    """
    prepared = [ready.varied(seed=seed) for seed in seeds or [ready.options.seed]]
    chance = chance_level(ready.baseline.value, len(ready.encoded.dev))
    known = {} if grid.factor is None else _known(prepared, method, runner)
    waiting = grid.in_order()
    while waiting:
        lr = waiting.pop(0)
        if lr not in known:
            rival = _found(known, chance).best if known else None
            known[lr] = _try(lr, prepared, method, runner, rival)
            logger.info(f"{known[lr]} ({len(known)} of at most {grid.max_runs} rates)")
        if not waiting and len(known) < grid.max_runs:
            waiting = grid.beyond(_found(known, chance))[: grid.max_runs - len(known)]
    found = _found(known, chance)
    if not math.isfinite(found.best.value):
        raise SearchError(f"every rate from {found.trials[0].lr:g} to {found.trials[-1].lr:g} diverged")
    return found


def _known(prepared: "Sequence[Preparation]", method: Method, runner: "Runner") -> dict[float, Trial]:
    """Return the trials that were made with every seed earlier, by rate."""
    by_seed = [
        {run.lr: run for run in runner.results.over("lr", ready.identity_for(method))} for ready in prepared
    ]
    shared = set(by_seed[0]).intersection(*by_seed)
    return {lr: Trial(lr, tuple(runs[lr] for runs in by_seed)) for lr in shared}


def _try(
    lr: float, prepared: "Sequence[Preparation]", method: Method, runner: "Runner", rival: Trial | None
) -> Trial:
    """Run a rate with every seed, each held against the best rate's run with that seed."""
    rivals = rival.runs if rival else [None] * len(prepared)
    runs = (runner.run(ready.varied(lr=lr), method, own) for ready, own in zip(prepared, rivals, strict=True))
    return Trial(lr, tuple(runs))


def chance_level(baseline: float, examples: int) -> float:
    """Return the dev value that is reached without learning: the baseline and one standard error.

    The error of a share p of n examples is sqrt(p (1 - p) / n). That of a correlation, whose baseline is 0,
    is sqrt(1 / n).

    Args:
        baseline: Dev value where the most frequent answer is always given.
        examples: Dev examples; at least one.
    """
    variance = baseline * (1 - baseline) if 0 < baseline < 1 else 1.0
    return baseline + math.sqrt(variance / examples)


def _found(known: dict[float, Trial], chance: float) -> Found:
    return Found(tuple(known[lr] for lr in sorted(known)), chance)


def rounded(rate: float) -> float:
    """Six digits, so that a rate is the same as an option, in a file and in the next search."""
    return float(f"{rate:.6g}")


def _place(rate: float) -> int:
    """Return the number of the highest rate of the paper's grid that is not above a rate; 0 for 1."""
    digit, _, power = f"{rate:.5e}".partition("e")
    return len(_DIGITS) * int(power) + sum(own <= float(digit) for own in _DIGITS) - 1


def _at(place: int) -> float:
    """Return the rate of the paper's grid with a number."""
    power, digit = divmod(place, len(_DIGITS))
    return float(f"{_DIGITS[digit]}e{power}")
