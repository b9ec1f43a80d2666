"""Held-out rows, used neither to learn nor to choose: a set's test rows, or those of another set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.common.tasks import sample
from training.data.columns import choose_columns
from training.data.examples import learn_labels, read_examples, settle
from training.data.features import EncodedExample, encode_examples
from training.data.rows import RowSet
from training.data.sources import read_file
from training.runs.preparation import Preparation


def read_held_out(path: Path, setting: Preparation, *, most: int | None = None) -> Sequence[EncodedExample]:
    """Read labelled rows that a task's models can be measured on; see `encode_held_out`.

    Args:
        path: The file.
        setting: The task.
        most: Most rows; None for all.

    Raises:
        DataError: The file can't be used.
    """
    return encode_held_out(read_file(path), setting, most=most)


def encode_held_out(
    whole: RowSet, setting: Preparation, *, most: int | None = None
) -> Sequence[EncodedExample]:
    """Encode labelled rows that a task's models can be measured on.

    Args:
        whole: The rows.
        setting: The task; labels and kind of input must be its own.
        most: Most rows, drawn with a fixed seed; None for all.

    Raises:
        DataError: They can't be used.
    """
    options = setting.options
    rows = replace(whole, rows=tuple(sample(whole.rows, most)))
    columns = choose_columns(options.kind, options.columns, (rows,))
    examples = settle(read_examples(rows, options.kind, columns), setting.data.judgement)
    learn_labels(options.kind, setting.data.train, examples)  # refuses a label that train lacks
    return encode_examples(examples, setting.codec, long_sentences=options.long_sentences)
