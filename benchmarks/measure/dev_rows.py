"""Dev rows of published tasks, read as learning reads them.

Those of a task are in the first of these files that there is: TASK/dev.jsonl, TASK/dev.jsonl.gz,
TASK-dev.jsonl, TASK-dev.jsonl.gz.
"""

from dataclasses import replace
from pathlib import Path

from benchmarks.errors import BenchmarkError
from masking import LoadedTask
from training.data.columns import choose_columns
from training.data.examples import judge, read_examples, settle
from training.data.features import EncodedExample, encode_examples
from training.data.sources import read_file
from training.kinds import labels_of

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
    kind, labels = task.spec.kind, task.spec.labels
    rows = read_file(path)
    read = read_examples(rows, kind, choose_columns(kind, {}, (rows,)))
    examples = settle(read, judge(kind, [read], "" if "-1" in labels else None))
    examples = replace(examples, examples=examples.examples[:most])
    for example in examples.examples if labels else ():
        for label in labels_of(example.target):
            if label not in labels:
                raise BenchmarkError(
                    f"{path}:{example.line}: task {task.manifest.task!r} has no label {label!r}; "
                    f"it has {', '.join(labels):.200}"
                )
    return encode_examples(examples, task.codec)
