"""What a run came to, as data and as text."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from mask_store import TaskKind, human_bytes
from masking import ChoiceInput, TaskInput, TextInput, WordsInput
from training.data.examples import ExampleSet, Unusable
from training.data.features import EncodedExample
from training.loop.history import EpochRecord

SERVER = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class SetReport:
    """What became of one file or split.

    Attributes:
        source: its name.
        used: examples used.
        truncated: examples that were cut to the longest input, or have a word that was.
        unusable: rows that could not be used.
    """

    source: str
    used: int
    truncated: int
    unusable: tuple[Unusable, ...]

    @classmethod
    def of(cls, examples: ExampleSet, encoded: Sequence[EncodedExample]) -> Self:
        """Count what became of examples that were encoded."""
        truncated = sum(item.features.truncated for item in encoded)
        return cls(examples.source, len(encoded), truncated, examples.unusable)


@dataclass(frozen=True)
class Report:
    """What a run learned and published.

    Attributes:
        task: name it was published under.
        kind: kind of task.
        labels: labels by index.
        base: name of the pretrained encoder.
        device: where it was learned.
        store: where it was published.
        version: number of the version.
        digest: digest of the published bundle.
        metric: name of the dev metric that chose the best epoch.
        metrics: dev metrics of the best epoch, which is what was published.
        best_epoch: number of the best epoch.
        resumed_after: epochs that an earlier, killed run had done.
        epochs: what each epoch came to.
        zeros_start: share of zero bits before learning.
        zeros_end: share of zero bits in what was published.
        flipped: share of bits that learning changed.
        bundle_bytes: bytes of the published file.
        mask_bits: weights that have a mask bit.
        mask_bytes: bytes of the packed masks in memory.
        finetuned_bytes: bytes that a finetuned fp32 copy for this task would take.
        seconds: time taken by this process, from reading data to publishing.
        train: what became of the training data.
        dev: what became of the dev data.
        request: body of a request that serving answers, made of the first dev example.
    """

    task: str
    kind: TaskKind
    labels: tuple[str, ...]
    base: str
    device: str
    store: str
    version: int
    digest: str
    metric: str
    metrics: Mapping[str, float]
    best_epoch: int
    resumed_after: int
    epochs: tuple[EpochRecord, ...]
    zeros_start: float
    zeros_end: float
    flipped: float
    bundle_bytes: int
    mask_bits: int
    mask_bytes: int
    finetuned_bytes: int
    seconds: float
    train: SetReport
    dev: SetReport
    request: Mapping[str, object]

    @property
    def value(self) -> float:
        """Value of the dev metric that chose the best epoch."""
        return self.metrics[self.metric]

    @property
    def ratio(self) -> float:
        """How many times larger a finetuned copy is than the published file."""
        return self.finetuned_bytes / self.bundle_bytes

    @property
    def curl(self) -> str:
        """Command that sends `request` to a server on this machine."""
        return curl_line(self.task, self.request)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, with `ratio` and `curl`."""
        return asdict(self) | {"ratio": round(self.ratio, 2), "curl": self.curl}

    def __str__(self) -> str:
        """Return the text that is printed at the end of a run."""
        lines = {
            "published": f"{self.task} version {self.version} in {self.store}",
            "digest": self.digest,
            "dev": f"{measured(self.metric, self.metrics)} on {self.dev.used} examples"
            f" (best epoch {self.best_epoch} of {len(self.epochs)})",
            "zeros": f"{self.zeros_start:.2%} at the start, {self.zeros_end:.2%} now;"
            f" {self.flipped:.2%} of the bits flipped",
            "size": size_line(self.bundle_bytes, self.mask_bits, self.mask_bytes),
            "finetuned": f"a finetuned copy takes {human_bytes(self.finetuned_bytes)},"
            f" {self.ratio:,.0f} times the file",
            "time": f"{human_seconds(self.seconds)} on {self.device}",
        }
        table = "\n".join(f"{name:<10} {text}" for name, text in lines.items())
        return with_curl(table, self.curl)


def measured(metric: str, metrics: Mapping[str, float]) -> str:
    """Write dev metrics on a line, the one that decides first."""
    others = "".join(f", {name} {value:.4f}" for name, value in metrics.items() if name != metric)
    return f"{metric} {metrics[metric]:.4f}{others}"


def curl_line(task: str, request: Mapping[str, object]) -> str:
    """Return the command that sends a request to a server on this machine."""
    body = json.dumps(request, ensure_ascii=False)
    return f"curl -s {SERVER}/predict/{task} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def size_line(bundle_bytes: int, mask_bits: int, mask_bytes: int) -> str:
    """Write what a published file takes on disk and its masks in memory."""
    return (
        f"{human_bytes(bundle_bytes)} on disk; {mask_bits:,} mask bits = {human_bytes(mask_bytes)} in memory"
    )


def with_curl(table: str, curl: str) -> str:
    """Write under a report how to ask a server."""
    return f"{table}\n\nWith a server on this store, ask it:\n\n    {curl}"


def request_body(task_input: TaskInput) -> dict[str, object]:
    """Return the JSON body that asks a server for the prediction of one input."""
    match task_input:
        case TextInput(text, None):
            return {"inputs": text}
        case TextInput(text, pair):
            return {"inputs": [text, pair]}
        case WordsInput(words):
            return {"tokens": list(words)}
        case ChoiceInput(context, choices):
            return {"context": context, "choices": list(choices)}


def human_seconds(seconds: float) -> str:
    """Write a duration: 4.2 s, 3 min 20 s, 1 h 05 min."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
