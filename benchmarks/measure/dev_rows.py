"""Dev rows of published tasks, read as learning reads them.

Those of a task are in the first of these files that there is: TASK/dev.jsonl, TASK/dev.jsonl.gz,
TASK-dev.jsonl, TASK-dev.jsonl.gz.
"""

from dataclasses import replace
from pathlib import Path

from benchmarks.errors import BenchmarkError
from masking import LoadedTask
from training.data.features import EncodedExample, encode_examples
from training.data.known_task import read_known
from training.data.sources import read_file
from training.errors import LabelError

FILES = ("{}/dev.jsonl", "{}/dev.jsonl.gz", "{}-dev.jsonl", "{}-dev.jsonl.gz")


def dev_file(folder: Path, task: str) -> Path | None:
    """Return the file of a task's dev rows, if there is one."""
    paths = [folder / name.format(task) for name in FILES]
    return next((path for path in paths if path.is_file()), None)


def read_dev(path: Path, task: LoadedTask, most: int | None) -> list[EncodedExample]:
    """Read a task's dev rows as learning reads them.

    Args:
        path: The file.
        task: The task.
        most: Rows to keep, the first ones; None for all.

    Raises:
        TrainingError: The file can't be read, or its rows are not such as the task takes.
        BenchmarkError: A label is not one of the task's.
    """
    try:
        examples = read_known(read_file(path), task.spec, {})
    except LabelError as error:
        raise BenchmarkError(str(error)) from None
    return encode_examples(replace(examples, examples=examples.examples[:most]), task.codec)
