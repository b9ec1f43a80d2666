"""Held-out rows, used neither to learn nor to choose: a task's ``test`` file, where the data have one."""

from collections.abc import Sequence
from pathlib import Path

from experiments.common.tasks import FORMATS
from training.data.columns import choose_columns
from training.data.examples import learn_labels, read_examples, settle
from training.data.features import EncodedExample, encode_examples
from training.data.sources import read_file
from training.runs.preparation import Preparation


def read_test(data: Path | None, setting: Preparation) -> Sequence[EncodedExample] | None:
    """Read a task's test rows.

    Args:
        data: Folder of the tasks' data; None for the hub, whose test rows have no labels.
        setting: The task.

    Returns:
        The examples; None where there is no test file.

    Raises:
        DataError: There is one, and it can't be used.
    """
    options = setting.options
    paths = [data / options.task / f"test.{ending}" for ending in FORMATS] if data else []
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    rows = read_file(path)
    columns = choose_columns(options.kind, options.columns, (rows,))
    examples = settle(read_examples(rows, options.kind, columns), setting.data.judgement)
    learn_labels(options.kind, setting.data.train, examples)  # refuses a label that train lacks
    return encode_examples(examples, setting.codec, long_sentences=options.long_sentences)
