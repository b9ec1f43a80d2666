"""Report of a run, as data and as text."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from mask_store import CombineRule, LearnedInfo, TaskKind, human_bytes
from training.data.examples import ExampleSet, Unusable
from training.data.features import EncodedExample
from training.judging.evaluation import Evaluation
from training.judging.text import evaluation_lines, measured
from training.loop.history import EpochRecord
from training.loop.run_folder import RunFolder
from training.page.page import PAGE, run_page
from training.page.record import run_of

TEXT = "report.txt"
SERVER = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class SetReport:
    """Use of one file or split.

    Attributes:
        source: Its name.
        used: Examples used.
        truncated: Examples that were cut to the longest input, or have a word that was.
        unusable: Rows that could not be used.
    """

    source: str
    used: int
    truncated: int
    unusable: tuple[Unusable, ...]

    @classmethod
    def of(cls, examples: ExampleSet, encoded: Sequence[EncodedExample]) -> Self:
        """Count the examples that were encoded."""
        truncated = sum(item.features.truncated for item in encoded)
        return cls(examples.source, len(encoded), truncated, examples.unusable)


@dataclass(frozen=True)
class MemberReport:
    """One member of an ensemble.

    Attributes:
        seed: Its seed.
        metrics: Its own dev metrics.
        best_epoch: Number of its best epoch.
        epochs_run: Epochs that were learned.
        zeros: Sparsity of its masks.
        mask_bytes: Bytes of its packed masks in memory.
    """

    seed: int
    metrics: Mapping[str, float]
    best_epoch: int
    epochs_run: int
    zeros: float
    mask_bytes: int

    @classmethod
    def of(cls, info: LearnedInfo) -> Self:
        """Read it from a manifest."""
        best, run = (int(info.training[name] or 0) for name in ("best_epoch", "epochs_run"))
        return cls(info.seed, info.metrics, best, run, info.sparsity, info.mask_bytes)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Report of any run: the task, how well it was learned, and in what time.

    Attributes:
        task: Name of the task.
        base: Name of the pretrained encoder.
        device: Where it was learned.
        metric: Name of the dev metric that chose the best epoch, and an ensemble's rule.
        metrics: Dev metrics of what was learned.
        seconds: Time taken by this process, from reading data to publishing.
        evaluation: How what was learned answers the dev set.
    """

    task: str
    base: str
    device: str
    metric: str
    metrics: Mapping[str, float]
    seconds: float
    evaluation: Evaluation

    @property
    def value(self) -> float:
        """Value of the dev metric."""
        return self.metrics[self.metric]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def rows(self) -> dict[str, str]:
        """Return the lines of the text by their first word."""
        found = self.evaluation
        return {
            "baseline": f"{found.baseline_answer} has {found.metric} {found.baseline:.4f}",
            "time": f"{human_seconds(self.seconds)} on {self.device}",
        }

    def __str__(self) -> str:
        """Return the text that is printed at the end of a run."""
        rows = self.rows()
        width = max(10, *map(len, rows)) + 1
        lines = [f"{name:<{width}}{text}" for name, text in rows.items()]
        return "\n".join([*lines, *evaluation_lines(self.evaluation)])


@dataclass(frozen=True, kw_only=True)
class PublishedReport(Report):
    """Report of what was published: a mask, or masks that answer together.

    Attributes:
        store: Where it was published.
        version: Number of the version.
        digest: Digest of the published bundle.
        bundle_bytes: Bytes of the published file.
        mask_bits: Weights that have a mask bit, over all masks.
        mask_bytes: Bytes of the packed masks in memory.
        finetuned_bytes: Bytes that as many finetuned fp32 copies would take.
        request: Body of a short request that serving answers, made of a dev example.
    """

    store: str
    version: int
    digest: str
    bundle_bytes: int
    mask_bits: int
    mask_bytes: int
    finetuned_bytes: int
    request: Mapping[str, object]

    @property
    def ratio(self) -> float:
        """How many times larger finetuned copies are than the published file."""
        return self.finetuned_bytes / self.bundle_bytes

    @property
    def curl(self) -> str:
        """Command that sends `request` to a server on this machine."""
        body = shlex.quote(json.dumps(self.request))  # ASCII, which every terminal takes
        return f"curl -s {SERVER}/predict/{self.task} -H 'Content-Type: application/json' -d {body}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, with `ratio` and `curl`."""
        return super().to_dict() | {"ratio": round(self.ratio, 2), "curl": self.curl}

    def rows(self) -> dict[str, str]:
        """Return the lines of the text by their first word."""
        size = f"{human_bytes(self.bundle_bytes)} on disk; {self.mask_bits:,} mask bits"
        return {
            "published": f"{self.task} version {self.version} in {self.store}",
            "digest": self.digest,
            "size": f"{size} = {human_bytes(self.mask_bytes)} in memory",
            "finetuned": f"{human_bytes(self.finetuned_bytes)}, {self.ratio:,.0f} times the file",
            **super().rows(),
        }

    def __str__(self) -> str:
        """Return the text that is printed at the end of a run, with how to ask a server."""
        return f"{super().__str__()}\n\nWith a server on this store, ask it:\n\n    {self.curl}"


@dataclass(frozen=True, kw_only=True)
class MaskReport(PublishedReport):
    """Report of a mask.

    Attributes:
        kind: Kind of task.
        labels: Labels by index.
        best_epoch: Number of the best epoch, from 1.
        resumed_after: Epochs that an earlier, killed run had done.
        epochs: Record of each epoch.
        zeros_start: Sparsity before learning.
        zeros_end: Sparsity of what was published.
        flipped: Flip rate: share of bits that learning changed.
        train: Use of the training data.
        dev: Use of the dev data.
    """

    kind: TaskKind
    labels: tuple[str, ...]
    best_epoch: int
    resumed_after: int
    epochs: tuple[EpochRecord, ...]
    zeros_start: float
    zeros_end: float
    flipped: float
    train: SetReport
    dev: SetReport

    def rows(self) -> dict[str, str]:
        """Return the lines of the text by their first word."""
        rows = super().rows()
        return {
            **{name: rows.pop(name) for name in ("published", "digest")},
            "dev": f"{measured(self.metric, self.metrics)} on {self.dev.used} examples"
            f" (best epoch {self.best_epoch} of {len(self.epochs)})",
            "zeros": f"{self.zeros_start:.2%} at the start, {self.zeros_end:.2%} now;"
            f" {self.flipped:.2%} of the bits flipped",
            **rows,
            "finetuned": f"a finetuned copy takes {rows['finetuned']}",
        }


@dataclass(frozen=True, kw_only=True)
class EnsembleReport(PublishedReport):
    """Report of an ensemble.

    Attributes:
        members: The members in their order.
        rules: Dev metrics of the members together, by rule.
        combine: The rule that was chosen.
        dev_examples: Examples that everything was measured on.
    """

    members: tuple[MemberReport, ...]
    rules: Mapping[CombineRule, Mapping[str, float]]
    combine: CombineRule
    dev_examples: int

    def rows(self) -> dict[str, str]:
        """Return the lines of the text by their first word."""
        rows, count = super().rows(), len(self.members)
        return {
            "published": f"{rows.pop('published')}, {count} masks",
            "digest": rows.pop("digest"),
            **{f"seed {member.seed}": self._member_row(member) for member in self.members},
            **{rule: measured(self.metric, own) for rule, own in self.rules.items()},
            "chosen": f"{self.combine}: {self.metric} {self.value:.4f} on {self.dev_examples} examples",
            **rows,
            "finetuned": f"{count} finetuned copies take {rows['finetuned']}",
        }

    def _member_row(self, member: MemberReport) -> str:
        epochs = f"best epoch {member.best_epoch} of {member.epochs_run}"
        masks = f"{member.zeros:.2%} zeros, {human_bytes(member.mask_bytes)} in memory"
        return f"{measured(self.metric, member.metrics)} ({epochs}), {masks}"


@dataclass(frozen=True, kw_only=True)
class FinetuneReport(Report):
    """Report of a finetuned copy.

    Attributes:
        lr: Learning rate.
        best_epoch: Number of the best epoch, from 1.
        epochs: Record of each epoch.
        model_bytes: Bytes of the fp32 weights.
        kept: Folder that holds the weights; None where they were dropped.
    """

    lr: float
    best_epoch: int
    epochs: tuple[EpochRecord, ...]
    model_bytes: int
    kept: str | None

    def rows(self) -> dict[str, str]:
        """Return the lines of the text by their first word."""
        epochs = f"best epoch {self.best_epoch} of {len(self.epochs)}"
        return {
            "finetuned": f"{self.task}, every weight of {self.base}, at lr {self.lr:g}",
            "dev": f"{measured(self.metric, self.metrics)} ({epochs})",
            "size": human_bytes(self.model_bytes),
            "kept": self.kept or "nothing; --save-to DIR keeps the weights",
            **super().rows(),
        }


def finish(folder: RunFolder, report: Report) -> None:
    """Leave a run's report in its folder in every form, and remove the rest; see `RunFolder.finish`."""
    fields = report.to_dict()
    folder.finish(fields, {TEXT: f"{report}\n", PAGE: run_page(run_of(folder.path, fields))})


def human_seconds(seconds: float) -> str:
    """Write a duration: 4.2 s, 3 min 20 s, 1 h 05 min."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
