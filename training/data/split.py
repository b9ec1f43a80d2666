"""Split of training examples: a share of them is kept to choose the best epoch by, in place of a dev set."""

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from masking import TaskInput
from training.data.examples import Example, ExampleSet
from training.errors import NoExamplesError
from training.kinds import Target, count_labels, labels_of

_SEED = 0  # not that of the run: runs of several seeds are measured on the same rows


def split_examples(examples: ExampleSet, share: float) -> tuple[ExampleSet, ExampleSet]:
    """Split examples by chance, the same way each time.

    Each label gives its share; a row with several counts for the rarest. Rows of the same input stay
    together, and a row whose label no other row has is learned.

    Args:
        examples: All examples.
        share: Share to choose by, above 0 and below 1.

    Returns:
        Those to learn from and those to choose by, each in their order.

    Raises:
        NoExamplesError: There are too few rows to keep any.
    """
    by_input: dict[TaskInput, list[Example]] = defaultdict(list)
    for example in examples.examples:
        by_input[example.input].append(example)
    counts = count_labels(example.target for example in examples.examples)
    by_label: dict[str, list[list[Example]]] = defaultdict(list)
    for group in by_input.values():
        by_label[_stratum(group[0].target, counts)].append(group)
    chooser = random.Random(_SEED)
    kept: set[int] = set()
    for label in sorted(by_label):
        groups = by_label[label]
        for group in chooser.sample(groups, min(round(share * len(groups)), len(groups) - 1)):
            kept |= {example.line for example in group}
    train = [example for example in examples.examples if example.line not in kept]
    known = {label for example in train for label in labels_of(example.target)}
    dev = [
        example
        for example in examples.examples
        if example.line in kept
        and (isinstance(example.target, int) or known.issuperset(labels_of(example.target)))
    ]
    if not dev:
        raise NoExamplesError(
            f"{examples.source}: a share of {share:g} of {len(examples.examples)} rows is none; give a "
            "larger --validation-share"
        )
    chosen = {example.line for example in dev}
    rest = tuple(example for example in examples.examples if example.line not in chosen)
    name = f"{examples.source} ({share:.0%} of it)"
    return (
        replace(examples, examples=rest),
        replace(examples, source=name, examples=tuple(dev), unusable=(), remarks=()),
    )


def _stratum(target: Target, counts: Mapping[str, int]) -> str:
    """Return the rarest label of a target; nothing where it has none, or values."""
    return min(labels_of(target), key=lambda label: (counts[label], label), default="")
