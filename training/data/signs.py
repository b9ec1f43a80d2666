"""Signs of wrong data, which are told and stop nothing: rows in both sets, one input with two labels."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from mask_store import TaskKind
from masking import TaskInput
from training.data.examples import SHOWN_LABELS, Example, ExampleSet, sort_labels
from training.kinds import TRAINING_KINDS, count_labels
from training.kinds.fields import joined


def signs_of_wrong_data(kind: TaskKind, train: ExampleSet, dev: ExampleSet) -> Iterator[str]:
    """Yield what looks wrong, a sentence each."""
    known = {example.input for example in train.examples}
    shared = [example.line for example in dev.examples if example.input in known]
    if shared:
        yield (
            f"{len(shared)} of {len(dev.examples)} rows of {dev.source} (first {dev.unit} {shared[0]}) are in"
            f" {train.source} too, so dev metrics are better than on new inputs"
        )
    yield from _contradictions(train)
    if TRAINING_KINDS[kind].has_classes:
        yield from _absent(train, dev)


def describe_labels(examples: ExampleSet) -> str:
    """List the labels of examples with counts, as ``2 labels: neg 10, pos 12``."""
    counts = count_labels(example.target for example in examples.examples)
    listed = [f"{label} {counts[label]}" for label in sort_labels(counts)]
    return f"{len(counts)} labels: {joined(listed, SHOWN_LABELS)}"


def describe_values(examples: ExampleSet, names: Sequence[str]) -> str:
    """Tell between what the values of examples lie, as ``score 0 to 5, mean 2.31``."""
    columns = zip(*(example.target for example in examples.examples), strict=True)
    told = [
        f"{name} {min(column):g} to {max(column):g}, mean {fmean(column):.4g}"
        for name, column in zip(names, columns, strict=True)
    ]
    return joined(told, SHOWN_LABELS)


def _contradictions(train: ExampleSet) -> Iterator[str]:
    first: dict[TaskInput, Example] = {}
    found = []
    for example in train.examples:
        known = first.setdefault(example.input, example)
        if known.target != example.target:
            found.append((known.line, example.line))
    if found:
        one, other = found[0]
        count = f"{len(found)} {'row has' if len(found) == 1 else 'rows have'}"
        yield (
            f"{train.source}: {count} the same input as an earlier one and another label, such as "
            f"{train.unit}s {one} and {other}"
        )


def _absent(train: ExampleSet, dev: ExampleSet) -> Iterator[str]:
    labels, there = (count_labels(one.target for one in some.examples) for some in (train, dev))
    if len(there) == 1:
        yield f"{dev.source}: every row has the label {next(iter(there))!r}, so dev metrics say nothing"
    elif absent := sort_labels(labels.keys() - there.keys()):
        listed = joined([repr(label) for label in absent], SHOWN_LABELS)
        yield f"{dev.source} has no row of {listed}, so dev metrics say nothing of {len(absent)} labels"
