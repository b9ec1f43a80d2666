"""Store of finished runs: a file of JSON lines, and the weights of each run where they are kept.

    {"identity": {"lr": 0.001, "data": "sha256:...", ...}, "result": {"method": "mask", "values": [...], ...}}

A line is appended the moment its run ends, so a command that was killed resumes with what is there. The
identity holds every setting and digest that the result follows from, so runs of many tasks can share a file.
No line is ever changed: the newest one of an identity counts. Weights are whole before their line is written.
Which runs to make, and making them, is done elsewhere.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from masking import TaskModel
from training.errors import ResultsError
from training.loop.history import EpochRecord
from training.options import Method

Identity = Mapping[str, object]

_START = '{"identity": '


@dataclass(frozen=True)
class Result:
    """Result of one run.

    Attributes:
        method: How the task was learned.
        lr: Learning rate.
        seed: Seed of the run.
        end: ``finished``, ``stopped`` early as hopeless, or ``diverged``.
        metric: Name of the dev metric that chose the best epoch.
        values: Dev metric after each epoch; empty where the run diverged.
        best_epoch: Number of the epoch that was chosen; 0 where the run diverged.
        nbytes: Bytes that the task takes in addition to the base: packed masks and head, or the finetuned
            fp32 copy; 0 where the run diverged.
        seconds: Time of learning and measuring, without reading data and loading the base; of the last
            process alone where a killed run was resumed.
        epochs: Record of each epoch; empty where the run diverged.
        held_out: Metrics at the best epoch on rows that neither learned nor chose, by the digest of the rows;
            those that were asked for.
    """

    method: Method
    lr: float
    seed: int
    end: Literal["finished", "stopped", "diverged"]
    metric: str
    values: tuple[float, ...]
    best_epoch: int
    nbytes: int
    seconds: float
    epochs: tuple[EpochRecord, ...] = ()
    held_out: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Value of the best epoch; minus infinity, worse than any, where the run diverged."""
        return self.values[self.best_epoch - 1] if self.values else float("-inf")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, `value` too (None where the run diverged)."""
        return asdict(self) | {"value": self.value if self.values else None}

    def __str__(self) -> str:
        """Write the run's rate and dev metric on a line."""
        if self.end == "diverged":
            return f"lr {self.lr:g}: diverged"
        how = ", stopped early" if self.end == "stopped" else ""
        return f"lr {self.lr:g}: dev {self.metric} {self.value:.4f} after {len(self.values)} epochs{how}"


@dataclass(frozen=True)
class _Line:
    """A line of the file."""

    identity: dict[str, object]
    result: Result


_LINE = TypeAdapter(_Line)


class Results:
    """The finished runs of a file, or of this process alone where there is none."""

    def __init__(
        self, path: Path | None = None, weights: Path | None = None, held_out: str | None = None
    ) -> None:
        """Read the file.

        Args:
            path: The file, made with the first result; None to keep nothing.
            weights: Folder for the weights of each run; None to keep none.
            held_out: Digest of the rows that each run has to be measured on; None for none.

        Raises:
            ResultsError: The file can't be read, or holds something else.
        """
        self._path = path
        self._weights = weights
        self._held_out = held_out
        self._known = [] if path is None or not path.exists() else list(_read(path))

    def get(self, identity: Identity) -> Result | None:
        """Return the newest result of an identity, None if there is none.

        Where weights are kept or held-out rows have to be measured, a result without its own counts as none,
        so that its run is made again.
        """
        result = self._newest(_plain(identity))
        if result is None or not result.values:
            return result
        measured = self._held_out is None or self._held_out in result.held_out
        kept = self._weights is None or self._weights_file(identity).is_file()
        return result if measured and kept else None

    def _newest(self, identity: Identity) -> Result | None:
        return next((result for own, result in reversed(self._known) if own == identity), None)

    def over(self, name: str, identity: Identity) -> list[Result]:
        """Return the results of all runs that differ in one entry of their identity at most, oldest first.

        Args:
            name: The entry, such as ``lr``.
            identity: All the entries.
        """
        wanted = _without(name, _plain(identity))
        return [result for own, result in self._known if _without(name, own) == wanted]

    def add(self, identity: Identity, result: Result, model: TaskModel | None = None) -> None:
        """Remember a result.

        Args:
            identity: What the result follows from.
            result: The result.
            model: What was learned, if anything; its weights are written if weights are kept.

        What was measured of a run on held-out rows still counts where it was made again and came out alike.

        Raises:
            ResultsError: It can't be written.
        """
        plain = _plain(identity)
        before = self._newest(plain)
        if before is not None and before.values == result.values:
            result = replace(result, held_out={**before.held_out, **result.held_out})
        if self._weights is not None and model is not None:
            _write_weights(self._weights_file(identity), model.learned_state())
        if self._path is not None:
            _append(self._path, json.dumps({"identity": plain, "result": asdict(result)}))
        self._known.append((plain, result))

    def weights(self, identity: Identity) -> dict[str, Tensor]:
        """Return the learned state of a finished run, which was kept.

        Raises:
            FileNotFoundError: It was not.
        """
        return load_file(self._weights_file(identity))

    def _weights_file(self, identity: Identity) -> Path:
        return (self._weights or Path()) / f"{short_hash(identity)}.safetensors"


def short_hash(identity: Identity) -> str:
    """Return 12 hex digits that name a run."""
    return hashlib.sha256(json.dumps(_plain(identity), sort_keys=True).encode()).hexdigest()[:12]


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(weights), temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise ResultsError(f"weights {path} can't be written: {error}") from error


def _read(path: Path) -> Iterator[tuple[Identity, Result]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"--results {path} can't be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            record = _LINE.validate_json(line)
        except ValidationError as error:
            if not line or _was_cut_off(line):
                continue
            raise ResultsError(f"--results {path}: line {number} is not a result of a run") from error
        yield record.identity, record.result


def _was_cut_off(line: str) -> bool:
    """Tell whether a line is the beginning of a result, left by a process that was killed while writing."""
    begun = _START.startswith(line) or line.startswith(_START)
    try:
        json.loads(line)
    except ValueError:
        return begun
    return False


def _append(path: Path, line: str) -> None:
    """Add a line in one write, on a line of its own even after one that was cut off."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            cut_off = file.read(1) not in {b"", b"\n"}
            file.write(("\n" * cut_off + line + "\n").encode())
    except OSError as error:
        raise ResultsError(f"--results {path} can't be written: {error.strerror or error}") from error


def _plain(identity: Identity) -> Identity:
    """Return the identity as it is read back from JSON."""
    plain: Identity = json.loads(json.dumps(identity))
    return plain


def _without(name: str, identity: Identity) -> Identity:
    return {key: value for key, value in identity.items() if key != name}
