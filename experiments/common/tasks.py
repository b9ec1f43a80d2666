"""The tasks of the paper (section 4): where their rows are, what is measured, how much of them is used.

Rows come from a folder of files, ``<folder>/<task>/train.jsonl.gz`` and ``dev.jsonl.gz`` (or any other format
that `training.data.sources` reads), or from the hub. Nothing here learns or measures.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mask_store import TaskKind
from training.data.rows import RowSet
from training.data.sources import read_dataset, read_file
from training.errors import DataError
from training.options import Metric

T = TypeVar("T")
FORMATS = ("jsonl.gz", "jsonl", "csv", "tsv", "parquet")
SAMPLE_SEED = 0


@dataclass(frozen=True)
class PaperTask:
    """One task of the paper.

    Attributes:
        name: Name of its folder and on the command line.
        title: Name in the paper's tables.
        kind: Kind of task.
        metric: Dev metric, as in the paper.
        outputs: Rows of the classifier W_T.
        hub: ``ID:CONFIG`` on the hub, where the data are there in one file a split; else None.
        columns: Options that name columns, where they are not the default ones.
    """

    name: str
    title: str
    kind: TaskKind
    metric: Metric
    outputs: int = 2
    hub: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


_PAIRS = {"text_column": "sentence1", "pair_column": "sentence2"}
_QNLI = {"text_column": "question", "pair_column": "sentence"}
_ALL = (
    PaperTask("mrpc", "MRPC", "sequence-classification", "accuracy", hub="nyu-mll/glue:mrpc", columns=_PAIRS),
    PaperTask("sst2", "SST2", "sequence-classification", "accuracy", hub="nyu-mll/glue:sst2"),
    PaperTask("cola", "CoLA", "sequence-classification", "matthews_correlation", hub="nyu-mll/glue:cola"),
    PaperTask("rte", "RTE", "sequence-classification", "accuracy", hub="nyu-mll/glue:rte", columns=_PAIRS),
    PaperTask("qnli", "QNLI", "sequence-classification", "accuracy", hub="nyu-mll/glue:qnli", columns=_QNLI),
    PaperTask("sem", "SEM", "sequence-classification", "accuracy"),
    PaperTask("trec", "TREC", "sequence-classification", "accuracy", 6),
    PaperTask("agnews", "AG", "sequence-classification", "accuracy", 4),
    PaperTask("pos", "POS", "token-classification", "accuracy", 49),
    PaperTask("ner", "NER", "token-classification", "f1", 9),
    PaperTask("swag", "SWAG", "multiple-choice", "accuracy", 1),
    PaperTask("codah", "CODAH", "multiple-choice", "accuracy", 1),
)
TASKS: Mapping[str, PaperTask] = {task.name: task for task in _ALL}


@dataclass(frozen=True)
class TaskFiles:
    """The files of a task.

    Attributes:
        train: Rows to learn from.
        dev: Rows to choose the best epoch by.
        test: Rows for neither; None where there are none.
        columns: Options that name their columns.
    """

    train: str
    dev: str
    test: Path | None
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class _Part:
    """Rows of a split that a run takes: all or some, of the whole split or of a part of it."""

    split: str
    most: int | None
    held: bool = False
    share: float | None = None

    def choose(self, rows: Sequence[T]) -> Sequence[T]:
        if self.share is not None:
            held = sample(rows, round(self.share * len(rows)))
            chosen = set(map(id, held))
            rows = held if self.held else [row for row in rows if id(row) not in chosen]
        return sample(rows, self.most)

    @property
    def suffix(self) -> str:
        part = "" if self.share is None else f"-{'held' if self.held else 'without'}-{self.share:g}"
        return part + ("" if self.most is None else f"-{self.most}")


def task_files(
    task: PaperTask,
    data: Path | None,
    rows: tuple[int | None, int | None],
    samples: Path,
    hold_out: float | None = None,
) -> TaskFiles:
    """Find a task's rows, and write a sample of them where not all are wanted.

    Args:
        task: The task.
        data: Folder of files; None for the hub.
        rows: Most rows of train and of dev; None for all. A sample is drawn with a fixed seed.
        samples: Folder for samples and for what comes from the hub, by the content that they are drawn from.
        hold_out: Share of train that takes the place of dev, so that the set's own dev is the test; None for
            the set's own dev, and its own test where there is one.

    Raises:
        DataError: The rows are not there; the message says where they were looked for.
    """
    most_train, most_dev = rows
    dev = _Part("dev", most_dev) if hold_out is None else _Part("train", most_dev, True, hold_out)
    train = _Part("train", most_train, share=hold_out)
    paths = [_path(task, data, part, samples) for part in (train, dev)]
    test = (
        find(data, task.name, "test") if hold_out is None else _path(task, data, _Part("dev", None), samples)
    )
    return TaskFiles(str(paths[0]), str(paths[1]), test, {} if data else task.columns)


def find(data: Path | None, folder: str, split: str) -> Path | None:
    """Return a set's file in the folder of data; None where there is none."""
    paths = [data / folder / f"{split}.{ending}" for ending in FORMATS] if data else []
    return next((path for path in paths if path.is_file()), None)


def sample_file(task: PaperTask, path: Path, most: int, folder: Path) -> Path:
    """Write a sample of a file's rows, the same each time, unless it is there; return its path.

    Raises:
        DataError: The file can't be read.
    """
    origin = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    target = folder / f"{task.name}-{origin}-{most}.jsonl"
    if not target.is_file():
        _write(target, sample([row.values for row in read_file(path).rows], most))
    return target


def _path(task: PaperTask, data: Path | None, part: _Part, samples: Path) -> Path:
    source = _find(task, data, part.split) if data else None
    if source and not part.suffix:
        return source
    origin = hashlib.sha256(source.read_bytes()).hexdigest()[:8] if source else "hub"
    path = samples / f"{task.name}-{part.split}-{origin}{part.suffix}.jsonl"
    if not path.is_file():
        rows = read_file(source) if source else _from_hub(task, part.split)
        _write(path, part.choose([row.values for row in rows.rows]))
    return path


def _find(task: PaperTask, data: Path, split: str) -> Path:
    found = find(data, task.name, split)
    if found is None:
        tried = data / task.name / f"{split}.{FORMATS[0]}"
        raise DataError(f"{task.title}: no file {tried} (nor .{', .'.join(FORMATS[1:])})")
    return found


def _from_hub(task: PaperTask, split: str) -> RowSet:
    if task.hub is None:
        raise DataError(f"{task.title} is not on the hub in a form that can be read: give --data FOLDER")
    return read_dataset(task.hub, "validation" if split == "dev" else split)


def sample(rows: Sequence[T], most: int | None) -> Sequence[T]:
    """Return at most so many rows, in their order, drawn with a fixed seed; None for all."""
    if most is None or most >= len(rows):
        return rows
    chosen = random.Random(SAMPLE_SEED).sample(range(len(rows)), most)
    return [rows[index] for index in sorted(chosen)]


def _write(path: Path, values: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in values)
    temporary = path.with_suffix(".part")
    temporary.write_text(lines, encoding="utf-8")
    temporary.replace(path)
