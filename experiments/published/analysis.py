"""Rules of figures 4 to 7, on what was learned; see `experiments.published.rules`.

The paper prints no numbers of these figures. Accuracies are in percent, all else is from 0 to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from experiments.published.facts import FACTS
from experiments.published.rules import Finding, Rule, at_least, at_most

SEPARATION_GAIN, SEPARATION_GAP = 0.1, 0.05
DISSIMILAR = 0.5
LINE_LOSS, MAJORITY_GAP = 2.0, 5.0

Encoder = Literal["pretrained", "finetuning", "masking"]
Agreement = Mapping[Encoder, float]
"""Figure 4: share of dev points in the map whose neighbours have their label by majority."""


def _separated(agreement: Agreement) -> Finding:
    pretrained, finetuned, masked = (agreement[name] for name in ("pretrained", "finetuning", "masking"))
    apart = all(at_least(share, pretrained + SEPARATION_GAIN) for share in (finetuned, masked))
    values = {str(name): share for name, share in agreement.items()}
    return Finding(values, apart and at_most(abs(finetuned - masked), SEPARATION_GAP))


F4 = Rule[Agreement](
    "F4",
    "the pretrained encoder's representations don't separate the classes, the finetuned and the masked one's "
    "nearly do.",
    "the share of points whose 10 neighbours have their label by majority is with both at least "
    f"{SEPARATION_GAIN:g} above the pretrained encoder's, and the two differ by at most {SEPARATION_GAP:g}",
    _separated,
)


@dataclass(frozen=True)
class Dissimilarity:
    """Figure 5: how much masks of two tasks differ, mean over seeds.

    Attributes:
        lower: s of W_O in block 2, by pair of tasks.
        last: s of W_O in the last block, by pair of tasks.
        by_block: Mean s of all masked layers over the pairs, by block.
    """

    lower: Mapping[str, float]
    last: Mapping[str, float]
    by_block: Mapping[int, float]

    def halves(self) -> tuple[float, float] | None:
        """Return the mean of the lower and of the upper half; a block in the middle belongs to neither."""
        means = [mean for _, mean in sorted(self.by_block.items())]
        half = len(means) // 2
        return (fmean(means[:half]), fmean(means[-half:])) if half else None


def _higher_differ_more(found: Dissimilarity) -> Finding:
    halves = found.halves()
    if halves is None or not found.lower:
        return Finding({}, None)
    lower, last = fmean(found.lower.values()), fmean(found.last.values())
    values = {"W_O, block 2": lower, "W_O, last": last, "lower half": halves[0], "upper half": halves[1]}
    return Finding(values, last > lower and halves[1] > halves[0])


def _dissimilar(found: Dissimilarity) -> Finding:
    if not found.last:
        return Finding({}, None)
    pair = min(found.last, key=found.last.__getitem__)
    return Finding({f"least s ({pair})": found.last[pair]}, at_least(found.last[pair], DISSIMILAR))


F5A = Rule[Dissimilarity](
    "F5a",
    "masks of two tasks differ more in higher layers than in lower ones.",
    "the mean s of W_O is higher in the last block than in block 2, and that of all masked layers is higher "
    "in the upper half of the masked blocks than in the lower",
    _higher_differ_more,
)
F5B = Rule[Dissimilarity](
    "F5b",
    "masks of tasks tend to be dissimilar, even where the tasks are alike.",
    f"in the last block every pair of tasks has s >= {DISSIMILAR}",
    _dissimilar,
)


@dataclass(frozen=True)
class Lines:
    """Figures 6 and 7: accuracies of the models along paths, by a path's name, from its start to its end.

    Attributes:
        accuracies: At least two a path.
        majority: Accuracy of the majority vote.
    """

    accuracies: Mapping[str, Sequence[float]]
    majority: float


def _nearly_constant(found: Lines) -> Finding:
    """Two models that have learned nothing prove nothing, and are not judged."""
    ends = [end for line in found.accuracies.values() for end in (line[0], line[-1])]
    if not ends or not all(at_least(end, found.majority + MAJORITY_GAP) for end in ends):
        return Finding({"lowest end": min(ends), "majority vote": found.majority} if ends else {}, None)
    losses = {name: min(line[0], line[-1]) - min(line) for name, line in found.accuracies.items()}
    values = {f"{name}: points below the lower end": loss for name, loss in losses.items()}
    return Finding(values, all(at_most(loss, LINE_LOSS) for loss in losses.values()))


def _not_constant(found: Lines) -> Finding:
    if not found.accuracies:
        return Finding({}, None)
    starts = {name: abs(line[0] - found.majority) for name, line in found.accuracies.items()}
    losses = {name: line[-1] - min(line) for name, line in found.accuracies.items()}
    values = {f"{name}: start less majority": gap for name, gap in starts.items()}
    values |= {f"{name}: lowest below the end": loss for name, loss in losses.items()}
    at_majority = all(at_most(gap, MAJORITY_GAP) for gap in starts.values())
    return Finding(values, at_majority and all(loss > MAJORITY_GAP for loss in losses.values()))


_CONSTANT = (
    f"no accuracy on it is more than {LINE_LOSS:.0f} points below its lower end (not judged where an end is "
    f"less than {MAJORITY_GAP:.0f} points above the majority vote)"
)
F6A = Rule[Lines](
    "F6a",
    "on the straight line from the finetuned to the masked model the accuracy stays high.",
    _CONSTANT,
    _nearly_constant,
)
F6B = Rule[Lines](
    "F6b",
    "on the lines from the pretrained model it doesn't, so that the first is no matter of course.",
    f"on both the accuracy starts within {MAJORITY_GAP:.0f} points of the majority vote, and its lowest is "
    f"more than {MAJORITY_GAP:.0f} points below the end",
    _not_constant,
)
F7A = Rule[Lines](
    "F7a",
    "on the learned curve from the finetuned to the masked model the accuracy stays high.",
    _CONSTANT,
    _nearly_constant,
)


@dataclass(frozen=True)
class Controls:
    """Control points of a learned curve.

    Attributes:
        count: Both ends included.
        moved: Of those between the ends, how many have moved.
        ends_kept: Whether both ends are bit for bit what they were.
    """

    count: int
    moved: int
    ends_kept: bool


def _three_bends(found: Controls) -> Finding:
    trainable = FACTS.figure7.trainable_models
    values = {"control points": found.count, "moved": found.moved}
    return Finding(values, (found.count, found.moved, found.ends_kept) == (trainable + 2, trainable, True))


F7B = Rule[Controls](
    "F7b",
    "the curve has three trainable models between its fixed ends.",
    "of five control points the three between the ends have moved, and the ends are bit for bit as they were",
    _three_bends,
)

ANALYSIS_RULES = (F4, F5A, F5B, F6A, F6B, F7A, F7B)
