"""Held-out rows, used neither to learn nor to choose: a ``test`` file, or a file of another data set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.common.tasks import FORMATS, sample
from training.data.columns import choose_columns
from training.data.examples import learn_labels, read_examples, settle
from training.data.features import EncodedExample, encode_examples
from training.data.sources import read_file
from training.runs.preparation import Preparation


def read_test(data: Path | None, setting: Preparation) -> Sequence[EncodedExample] | None:
    """Read a task's test rows; see `read_held_out`."""
    return read_held_out(data, setting.options.task, "test", setting)


def read_held_out(
    data: Path | None, folder: str, split: str, setting: Preparation, *, most: int | None = None
) -> Sequence[EncodedExample] | None:
    """Read labelled rows that a task's models can be measured on.

    Args:
        data: Folder of the tasks' data; None for the hub, whose test rows have no labels.
        folder: Folder in it.
        split: Name of the file without its ending.
        setting: The task; labels and kind of input must be its own.
        most: Most rows, drawn with a fixed seed; None for all.

    Returns:
        The examples; None where there is no such file.

    Raises:
        DataError: There is one, and it can't be used.
    """
    paths = [data / folder / f"{split}.{ending}" for ending in FORMATS] if data else []
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    options, whole = setting.options, read_file(path)
    rows = replace(whole, rows=tuple(sample(whole.rows, most)))
    columns = choose_columns(options.kind, options.columns, (rows,))
    examples = settle(read_examples(rows, options.kind, columns), setting.data.judgement)
    learn_labels(options.kind, setting.data.train, examples)  # refuses a label that train lacks
    return encode_examples(examples, setting.codec, long_sentences=options.long_sentences)
