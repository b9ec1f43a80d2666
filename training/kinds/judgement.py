"""Judgement of labels: what they mean, decided over all rows of train and dev together.

Some conventions can't be seen in one row: that -1 is no label, that a column holds scores, that choices are
counted from 1. What was decided is told, with counts.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from masking import TaskInput
from training.errors import LabelError
from training.kinds.fields import UnusableRowError, is_fraction, joined, whole_number

Target = str | int | tuple[str, ...] | tuple[float, ...]

_NO_LABEL = "-1"
_FEW = 0.1  # share of -1 beside 0 and 1 below which it means no label, and not a class below them
_SHOWN = 5
_SEPARATORS = "|;,"
_LIKE_MISSING = {
    "nan",
    "null",
    "none",
    "n/a",
    "na",
    "<na>",
    "?",
    "-",
    "-100",
    "undefined",
    "unlabeled",
    "unlabelled",
}


@dataclass(frozen=True)
class Judgement:
    """How targets as they were read become those that are learned.

    Attributes:
        settle: Takes an input and its target as read, and returns the target; raises UnusableRowError where
            there is none.
        notes: What was decided, a sentence each.
        warnings: What looks wrong, a sentence each.
    """

    settle: Callable[[TaskInput, Target], Target]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge_labels(counts: Mapping[str, int], missing: str | None) -> Judgement:
    """Judge the labels of all rows.

    Args:
        counts: How often each label is there.
        missing: Label of rows that have none, as the user says; empty for "every label is one"; None to find
            out whether -1 means that.

    Raises:
        LabelError: The labels are numbers that are not all whole.
    """
    fractions = [label for label in counts if is_fraction(label)]
    if fractions and all(is_fraction(label) or whole_number(label) is not None for label in counts):
        raise LabelError(
            f"the labels are scores ({joined(fractions, 3)}), which can't be learned as classes; a label is "
            "text or a whole number, and --kind regression learns numbers"
        )
    chosen = (_NO_LABEL if _means_no_label(counts) else "") if missing is None else missing
    notes, warnings = [], []
    if chosen and chosen in counts:
        way_out = "" if missing else "; if it is a class, give --missing-label ''"
        notes.append(
            f"label {chosen!r} means no label: its {counts[chosen]} rows or words are left out{way_out}"
        )
    elif missing is None and _NO_LABEL in counts and _is_lowest(counts):
        warnings.append(
            f"label '-1' ({counts[_NO_LABEL]} times) is learned as a class; if it marks rows without a label,"
            " give --missing-label=-1"
        )
    kept = {label: count for label, count in counts.items() if label != chosen}
    warnings += [*_look_alike(kept), *_several(kept)]
    if missing is None:
        warnings += _like_missing(kept)
    return Judgement(_LabelSettler(chosen), tuple(notes), tuple(warnings))


def count_labels(targets: Iterable[Target]) -> Counter[str]:
    """Count the labels of targets; of tags every word counts."""
    return Counter(label for target in targets for label in labels_of(target))


def labels_of(target: Target) -> tuple[str, ...]:
    """Return the labels of a target: its tags, its labels, or its only label; none of values."""
    if not isinstance(target, tuple):
        return (str(target),)
    return tuple(label for label in target if isinstance(label, str))


@dataclass(frozen=True)
class _LabelSettler:
    missing: str

    def __call__(self, task_input: TaskInput, target: Target) -> Target:
        for label in labels_of(target):
            if self.missing and label == self.missing:
                raise UnusableRowError(f"label {label!r} means no label")
            if is_fraction(label):
                raise UnusableRowError(f"label {label!r} is a fraction; a label is text or a whole number")
        return target


def _is_lowest(counts: Mapping[str, int]) -> bool:
    """Tell whether all labels are whole numbers, of which -1 is the only one below 0."""
    numbers = [whole_number(label) for label in counts]
    return all(number is not None and number >= -1 for number in numbers)


def _means_no_label(counts: Mapping[str, int]) -> bool:
    others = counts.keys() - {_NO_LABEL}
    if _NO_LABEL not in counts or len(others) < 2 or not _is_lowest(counts):  # noqa: PLR2004
        return False
    return others != {"0", "1"} or counts[_NO_LABEL] < _FEW * sum(counts.values())


def _look_alike(counts: Mapping[str, int]) -> list[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups["".join(label.casefold().split())].append(label)
    return [
        f"labels {' and '.join(map(repr, sorted(group)))} differ by case or space alone, and are two classes"
        for group in groups.values()
        if len(group) > 1
    ][:_SHOWN]


def _several(counts: Mapping[str, int]) -> list[str]:
    """Warn of labels that are other labels put together."""
    found = [
        label
        for label in counts
        for separator in _SEPARATORS
        if separator in label and all(part.strip() in counts for part in label.split(separator))
    ]
    if not found:
        return []
    return [
        f"label {found[0]!r} is made of other labels, and a class of its own; if a text may have several, "
        "give --kind multi-label-classification"
    ]


def _like_missing(counts: Mapping[str, int]) -> list[str]:
    return [
        f"label {label!r} ({count} times) looks like no label; if so, give --missing-label="
        f"{shlex.quote(label)}"
        for label, count in counts.items()
        if label.casefold() in _LIKE_MISSING
    ]
