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
SPLITS = ("train", "dev")
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
    """The two files that a run learns from.

    Attributes:
        train: Rows to learn from.
        dev: Rows to choose the best epoch by.
        columns: Options that name their columns.
    """

    train: str
    dev: str
    columns: Mapping[str, Any]


def task_files(
    task: PaperTask, data: Path | None, rows: tuple[int | None, int | None], samples: Path
) -> TaskFiles:
    """Find a task's rows, and write a sample of them where not all are wanted.

    Args:
        task: The task.
        data: Folder of files; None for the hub.
        rows: Most rows of train and of dev; None for all. A sample is drawn with a fixed seed.
        samples: Folder for samples and for what comes from the hub, by the content that they are drawn from.

    Raises:
        DataError: The rows are not there; the message says where they were looked for.
    """
    paths = [_path(task, data, split, most, samples) for split, most in zip(SPLITS, rows, strict=True)]
    return TaskFiles(str(paths[0]), str(paths[1]), {} if data else task.columns)


def _path(task: PaperTask, data: Path | None, split: str, most: int | None, samples: Path) -> Path:
    source = _find(task, data, split) if data else None
    if source and most is None:
        return source
    origin = hashlib.sha256(source.read_bytes()).hexdigest()[:8] if source else "hub"
    sample = samples / f"{task.name}-{split}-{origin}{'' if most is None else f'-{most}'}.jsonl"
    if not sample.is_file():
        rows = read_file(source) if source else _from_hub(task, split)
        _write(sample, rows, most)
    return sample


def _find(task: PaperTask, data: Path, split: str) -> Path:
    tried = [data / task.name / f"{split}.{ending}" for ending in FORMATS]
    found = [path for path in tried if path.is_file()]
    if not found:
        raise DataError(f"{task.title}: no file {tried[0]} (nor .{', .'.join(FORMATS[1:])})")
    return found[0]


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


def _write(path: Path, rows: RowSet, most: int | None) -> None:
    values = sample([row.values for row in rows.rows], most)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in values)
    temporary = path.with_suffix(".part")
    temporary.write_text(lines, encoding="utf-8")
    temporary.replace(path)
