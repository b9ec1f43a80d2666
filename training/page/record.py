"""Record of a run, read from the report in its folder, and of what it was compared with.

``RUN/report.json`` is the report of `training.runs`, ``RUN-compare/comparison.json`` the list of the runs of
either method that `training.compare` has made.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from training.errors import ReportError
from training.judging.evaluation import Evaluation
from training.loop.history import EpochRecord
from training.loop.run_folder import REPORT
from training.options import Method

COMPARED = "-compare"
COMPARISON = "comparison.json"
T = TypeVar("T")


@dataclass(frozen=True)
class RunRecord:
    """What a report says of a run; None where its kind of run has no such thing.

    Attributes:
        task: Name of the task.
        base: Name of the encoder.
        device: Where it was learned.
        metric: Name of the dev metric that chose the epoch.
        metrics: Dev metrics.
        seconds: Time taken.
        best_epoch: Number of the best epoch.
        epochs: Record of each epoch.
        evaluation: How the dev set was answered.
        version: Number of the published version.
        digest: Its digest.
        bundle_bytes: Bytes of its file.
        mask_bytes: Bytes of the masks in memory.
        finetuned_bytes: Bytes of a finetuned copy.
    """

    task: str
    base: str
    device: str
    metric: str
    metrics: Mapping[str, float]
    seconds: float
    best_epoch: int | None = None
    epochs: tuple[EpochRecord, ...] = ()
    evaluation: Evaluation | None = None
    version: int | None = None
    digest: str | None = None
    bundle_bytes: int | None = None
    mask_bytes: int | None = None
    finetuned_bytes: int | None = None


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison; see `training.runs.results.Result`."""

    method: Method
    lr: float
    seed: int
    end: str
    metric: str
    values: tuple[float, ...]
    best_epoch: int
    nbytes: int
    seconds: float

    @property
    def value(self) -> float | None:
        """Dev metric of the best epoch; None where the run diverged."""
        return self.values[self.best_epoch - 1] if self.values else None


@dataclass(frozen=True)
class Run:
    """A run and what it was compared with; one of both is there.

    Attributes:
        name: Name of the folder.
        record: The run; None where the folder is of a comparison alone.
        compared: The runs of the comparison.
    """

    name: str
    record: RunRecord | None
    compared: tuple[ComparedRun, ...]

    @property
    def metric(self) -> str:
        """Name of the dev metric that chose the epoch."""
        return self.record.metric if self.record else self.compared[0].metric


_RECORD, _RUNS = TypeAdapter(RunRecord), TypeAdapter(tuple[ComparedRun, ...])


def read_run(folder: Path) -> Run:
    """Read a run from its folder, or a comparison from that of ``RUN-compare``.

    Raises:
        ReportError: There is no report, or one that can't be read.
    """
    folder = folder.resolve()
    path = folder / REPORT
    record = _read(path, _RECORD) if path.is_file() else None
    comparison = _comparison(folder)
    if record is None and comparison is None:
        raise ReportError(f"{folder}: there is no {REPORT}; it is written when a run has finished")
    runs: tuple[ComparedRun, ...] = () if comparison is None else _read(comparison, _RUNS)
    return _together(folder, record, runs)


def run_of(folder: Path, report: Mapping[str, object]) -> Run:
    """Return a run whose report is not written yet.

    Args:
        folder: The run's folder.
        report: The report as JSON values.
    """
    runs: tuple[ComparedRun, ...] = ()
    if comparison := _comparison(folder):
        with suppress(ReportError):  # a run that has learned does not end by another's report
            runs = _read(comparison, _RUNS)
    return _together(folder, _RECORD.validate_json(json.dumps(report)), runs)


def write_comparison(folder: Path, runs: Sequence[Mapping[str, object]]) -> Run:
    """Keep the runs of a comparison in its folder, for the pages of it and of the run.

    Args:
        folder: The folder, ``RUN-compare``; made if it isn't there.
        runs: Results of the runs as JSON values.

    Returns:
        The comparison.

    Raises:
        OSError: It can't be written.
    """
    text = json.dumps(runs, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COMPARISON).write_text(text + "\n", encoding="utf-8")
    return Run(folder.name, None, _RUNS.validate_json(text))


def _comparison(folder: Path) -> Path | None:
    """Return the file of a comparison, in its own folder or found from the run's."""
    places = (folder, folder.with_name(folder.name + COMPARED))
    return next((place / COMPARISON for place in places if (place / COMPARISON).is_file()), None)


def _together(folder: Path, record: RunRecord | None, runs: Sequence[ComparedRun]) -> Run:
    compared = tuple(run for run in runs if record is None or run.metric == record.metric)
    return Run(folder.name, record, compared)


def _read(path: Path, kind: TypeAdapter[T]) -> T:
    try:
        return kind.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ReportError(f"{path} is not the report of a run: {place or 'JSON'}: {first['msg']}") from None
    except OSError as error:
        raise ReportError(f"{path} can't be read: {error.strerror or error}") from error
