"""Precisions: the quality of learned tasks in each, masks over one base and folded copies alike.

Every task of a store is measured on dev rows with the metric of its manifest. Masks are computed as a server
computes them; a folded copy is a plain model of torch with the masks multiplied into its weights. All are
compared with the masks in fp32.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.measure.dev_rows import FILES, dev_file, read_dev
from benchmarks.peers.folded import DTYPES, copied_logits
from lab.extras import need
from lab.tables import markdown_table, write_report
from mask_store import LearnedInfo, MaskBundle, MaskStore, MaskStoreError
from masking import (
    Base,
    ClassPrediction,
    EmbeddingPrediction,
    LoadedTask,
    MaskingError,
    Prediction,
    ValuesPrediction,
    load_base,
    load_task,
)
from masking.inference import ResidentWeights
from masking.kernels import Precision
from masking.kernels.cpu.processor import instruction_sets, processor_name
from masking.tasks.predictions import Floats
from training.data.features import EncodedExample
from training.errors import TrainingError
from training.loop.evaluation import measure, served_logits

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
MASKS, COPY = "masks", "folded copy"
HEAD = (
    "task", "computed as", "precision", "inputs", "metric", "value", "to fp32, points", "same labels, %",
    "scores: most", "scores: mean",
)  # fmt: skip
_MAX_ROWS = 32


@dataclass(frozen=True)
class Quality:
    """A task in one precision, beside the masks in fp32.

    Attributes:
        task: Its name.
        form: `MASKS` or `COPY`.
        precision: The precision.
        inputs: Inputs that were measured.
        metric: The task's metric.
        value: Its value, mostly 0 to 1.
        points: 100 times the difference of the value.
        same_labels: Share of the labels that are the same; of tagging each word's counts.
        largest: Largest difference of a score; scores are 0 to 1.
        mean: Mean difference of the scores.
    """

    task: str
    form: str
    precision: str
    inputs: int
    metric: str
    value: float
    points: float
    same_labels: float
    largest: float
    mean: float


def measure_task(
    bundle: MaskBundle,
    path: Path,
    base: Base,
    weights: Mapping[Precision, ResidentWeights],
    arguments: argparse.Namespace,
) -> Iterator[Quality]:
    """Measure a task in each precision, as masks and as a folded copy.

    Args:
        bundle: Its masks.
        path: File of its dev rows.
        base: The encoder.
        weights: By precision the encoder's layers.
        arguments: They say which precisions and how many rows.
    """
    task = load_task(bundle, base)
    examples = read_dev(path, task, arguments.rows)
    learned = next(iter(bundle.manifest.learned.values()))
    metric = learned.metric if isinstance(learned, LearnedInfo) else "accuracy"

    def masks(resident: ResidentWeights | None) -> _Answers:
        logits = served_logits(bundle, base, examples, max_rows=_MAX_ROWS, weights=resident)
        return _Answers.of(task, examples, logits)

    exact = masks(None)

    def quality(form: str, precision: str, own: _Answers) -> Quality:
        apart = np.abs(own.scores - exact.scores)
        value = own.metrics[metric]
        return Quality(
            task=bundle.manifest.task,
            form=form,
            precision=precision,
            inputs=len(examples),
            metric=metric,
            value=value,
            points=100 * (value - exact.metrics[metric]),
            same_labels=float((own.labels == exact.labels).mean()),
            largest=float(apart.max()),
            mean=float(apart.mean()),
        )

    for precision, resident in weights.items():
        yield quality(MASKS, precision, exact if precision == "fp32" else masks(resident))
    for precision in [one for one in arguments.precisions if one in DTYPES]:
        logits = copied_logits(base, task, examples, precision, max_rows=_MAX_ROWS)
        yield quality(COPY, precision, _Answers.of(task, examples, logits))


@dataclass(frozen=True)
class _Answers:
    """The answers to all examples: int64 labels, one an input or word; float32 scores; every metric."""

    labels: np.ndarray[tuple[int], np.dtype[np.int64]]
    scores: np.ndarray[tuple[int], np.dtype[np.float32]]
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, task: LoadedTask, examples: Sequence[EncodedExample], logits: Sequence[Floats]) -> "_Answers":
        predictions = [task.codec.decode(one) for one in logits]
        return cls(
            np.array([index for one in predictions for index in _indices(one)]),
            np.concatenate([one.scores.ravel() for one in predictions]),
            measure(task.codec, examples, predictions),
        )


def _indices(prediction: Prediction) -> tuple[int, ...]:
    match prediction:
        case ClassPrediction():
            return (prediction.index,)
        case ValuesPrediction() | EmbeddingPrediction():
            return ()
    return prediction.indices


def means(results: Sequence[Quality]) -> list[dict[str, object]]:
    """Return the means over the tasks, and the largest loss, of each form and precision."""

    def place(one: Quality) -> tuple[str, str]:
        return one.form, one.precision

    order = {name: number for number, name in enumerate(dict.fromkeys(map(place, results)))}
    groups = groupby(sorted(results, key=lambda one: order[place(one)]), key=place)
    found = []
    for (form, precision), group in groups:
        own = list(group)
        found.append(
            {
                "form": form,
                "precision": precision,
                "tasks": len(own),
                "points": fmean(one.points for one in own),
                "worst_points": min(one.points for one in own),
                "same_labels": fmean(one.same_labels for one in own),
                "largest": max(one.largest for one in own),
                "mean": fmean(one.mean for one in own),
            }
        )
    return found


def table(results: Sequence[Quality], averages: Sequence[Mapping[str, object]]) -> str:
    """Write all results, and the means over the tasks, as Markdown."""
    rows = []
    for one in results:
        told = [one.task, one.form, one.precision, str(one.inputs), one.metric, f"{one.value:.4f}"]
        rows.append([*told, *_compared(asdict(one))])
    for mean in averages:
        told = [f"mean of {mean['tasks']}", str(mean["form"]), str(mean["precision"]), "", "", ""]
        rows.append([*told, *_compared(mean)])
    return markdown_table(HEAD, rows)


def _compared(one: Mapping[str, object]) -> list[str]:
    points, same = f"{one['points']:+.2f}", f"{100 * float(str(one['same_labels'])):.2f}"
    return [points, same, f"{one['largest']:.4f}", f"{one['mean']:.5f}"]


def choose_tasks(store: MaskStore, folder: Path, wanted: Sequence[str] | None) -> dict[str, Path]:
    """Return the tasks to measure with the files of their dev rows.

    Raises:
        BenchmarkError: None is left, or one that is wanted has no dev rows, or is not in the store.
    """
    names = store.tasks() if wanted is None else list(wanted)
    if unknown := [name for name in names if name not in store.tasks()]:
        raise BenchmarkError(f"the store has no task {unknown[0]!r}; it has {', '.join(store.tasks())}")
    files = {name: dev_file(folder, name) for name in names}
    found = {name: path for name, path in files.items() if path is not None}
    missing = [name for name in names if name not in found]
    if missing and (wanted is not None or not found):
        places = ", ".join(one.format(missing[0]) for one in FILES)
        raise BenchmarkError(f"{folder} has no dev rows of task {missing[0]!r}; looked for {places}")
    if missing:
        print(f"Without dev rows, so not measured: {', '.join(missing)}.\n")
    return found


def prepare_weights(base: Base, precisions: Sequence[Precision]) -> dict[Precision, ResidentWeights]:
    """Prepare the encoder's layers in each precision that this machine has; tell which it has not."""
    found: dict[Precision, ResidentWeights] = {}
    for one in precisions:
        try:
            found[one] = ResidentWeights.of(base, one)
        except ValueError as error:
            print(f"Not measured: {error}.\n")
    return found


def describe_wider(weights: Mapping[Precision, ResidentWeights]) -> dict[str, dict[str, dict[str, object]]]:
    """Return by precision and layer what the layers kept wider are multiplied in, and their errors."""
    return {
        precision: {
            name: {"precision": own.precision_of(name), "error": error} for name, error in own.wider.items()
        }
        for precision, own in weights.items()
    }


def wider_lines(weights: Mapping[Precision, ResidentWeights]) -> list[str]:
    """Tell how many layers are kept wider than int8, and a line each which."""
    if "int8" not in weights:
        return []
    own = weights["int8"]
    layers = [f"  {name}: {own.precision_of(name)}, error {error:.3f}" for name, error in own.wider.items()]
    return [f"int8: {len(layers)} of {len(own.lines)} layers are kept wider", *layers]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--base", required=True, help="folder or hub id of the tasks' encoder")
    parser.add_argument("--store", required=True, metavar="DIR", help="store of the tasks: folder or URL")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of TASK/dev.jsonl or TASK-dev.jsonl"
    )
    parser.add_argument("--tasks", nargs="+", help="tasks to measure (all that have dev rows)")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument(
        "--rows", type=_positive, metavar="N", help="dev rows of each task to measure, the first ones (all)"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main(arguments: argparse.Namespace) -> int:
    """Measure all tasks, print the table, write the JSON; return the exit code."""
    need("sklearn", "train")
    try:
        store = MaskStore.open(arguments.store)
        files = choose_tasks(store, arguments.data, arguments.tasks)
        base = load_base(arguments.base)
        weights = prepare_weights(base, arguments.precisions)
        results: list[Quality] = []
        for name, path in files.items():
            results += measure_task(store.load(name), path, base, weights, arguments)
    except (MaskStoreError, MaskingError, TrainingError) as error:
        raise BenchmarkError(str(error)) from error
    averages = means(results)
    machine = {"processor": processor_name(), "instruction_sets": instruction_sets()}
    print(f"{base.info.name}, {machine['processor']}.\n")
    print(table(results, averages))
    print("".join(f"\n{line}" for line in wider_lines(weights)))
    write_report(
        arguments,
        "precision",
        base=base.info.name,
        **machine,
        wider=describe_wider(weights),
        results=[asdict(one) for one in results],
        means=averages,
    )
    return 0
