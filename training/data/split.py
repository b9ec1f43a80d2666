"""Split of training examples: a share of them is kept to choose the best epoch by, in place of a dev set."""

import random
from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import replace

from masking import TaskInput
from training.data.examples import ExampleSet
from training.errors import NoExamplesError
from training.kinds import Target, count_labels, labels_of


def split_examples(examples: ExampleSet, share: float, seed: int = 0) -> tuple[ExampleSet, ExampleSet]:
    """Split examples by chance, the same way each time.

    Each label gives its share, or one row where that share is less than one of all labels; a row with several
    labels counts for the rarest. Rows of the same input stay together, and a row whose label no other row has
    is learned.

    Args:
        examples: All examples.
        share: Share to choose by, above 0 and below 1.
        seed: Decides which; not that of a run, so that runs of several seeds are measured on the same rows.

    Returns:
        Those to learn from and those to choose by, each in their order.

    Raises:
        NoExamplesError: There are too few rows to keep any.
    """
    by_input: dict[TaskInput, list[int]] = defaultdict(list)
    for place, example in enumerate(examples.examples):
        by_input[example.input].append(place)
    counts = count_labels(example.target for example in examples.examples)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for group in by_input.values():
        by_label[_stratum(examples.examples[group[0]].target, counts)].append(group)
    chooser = random.Random(seed)
    kept: set[int] = set()
    fewest = 0 if any(round(share * len(groups)) for groups in by_label.values()) else 1
    for label in sorted(by_label):
        groups = by_label[label]
        size = min(max(round(share * len(groups)), fewest), len(groups) - 1)
        for group in chooser.sample(groups, size):
            kept.update(group)
    known = {
        label
        for place, example in enumerate(examples.examples)
        if place not in kept
        for label in labels_of(example.target)
    }
    chosen = {place for place in kept if _is_known(examples.examples[place].target, known)}
    if not chosen:
        raise NoExamplesError(
            f"{examples.source}: of {len(examples.examples)} rows none can be kept to choose by, as each is "
            "the only one of its label; give --dev FILE"
        )
    train, dev = (
        tuple(example for place, example in enumerate(examples.examples) if (place in chosen) == is_dev)
        for is_dev in (False, True)
    )
    name = f"{examples.source} ({share:.0%} of it)"
    return (
        replace(examples, examples=train),
        replace(examples, source=name, examples=dev, unusable=(), remarks=()),
    )


def _is_known(target: Target, known: Container[str]) -> bool:
    """Tell whether every label of a target is known; indices and values always are."""
    return isinstance(target, int) or all(label in known for label in labels_of(target))


def _stratum(target: Target, counts: Mapping[str, int]) -> str:
    """Return the rarest label of a target; nothing where it has none, or values."""
    return min(labels_of(target), key=lambda label: (counts[label], label), default="")
