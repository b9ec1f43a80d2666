"""Run folder: the settings and checkpoints of one unfinished run.

    run.json              the settings and digests that decide which mask is learned
    checkpoint-<step>/    written by the trainer at the end of each epoch, and every --save-steps; whole once
                          it holds `complete`
    bundle.safetensors    the mask of a run that is done, kept until it is published
    lock                  held while a process learns here

A run that finished leaves only ``report.json`` and other forms of it; it is finished once ``run.json`` is
gone. Nothing else in the folder is ever touched. Where several processes learn together, the first alone
takes the lock and writes.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mask_store import MaskBundle, MaskStoreError, read_bundle, write_bundle
from training.distributed import is_main, together
from training.errors import RunFolderError, RunInUseError, RunMismatchError

RECORD = "run.json"
REPORT = "report.json"
BUNDLE = "bundle.safetensors"
COMPLETE = "complete"
PREFIX = "checkpoint-"

Identity = Mapping[str, object]


class RunFolder:
    """Checkpoints of one run; use inside `RunFolder.open`."""

    def __init__(self, path: Path) -> None:
        """Take the folder's path; see `RunFolder.open`."""
        self.path = path

    @classmethod
    @contextmanager
    def open(cls, path: Path, identity: Identity, *, fresh: bool = False) -> Iterator["RunFolder"]:
        """Hold a folder for a run, made if it isn't there.

        Args:
            path: The folder.
            identity: Settings and digests that decide which mask is learned, JSON values by name.
            fresh: Drop an unfinished run that is there.

        Raises:
            RunMismatchError: The folder holds an unfinished run of another identity.
            RunInUseError: Another process is learning here.
            RunFolderError: The folder can't be written.
            OtherProcessError: The first process could not open it, which the others raise.
        """
        lock = FileLock(path / "lock", timeout=0)
        folder = cls(path.resolve())
        try:
            with together():
                if is_main():
                    _take(lock, path)
                    folder._claim(json.loads(json.dumps(identity)), fresh)
            yield folder
        finally:
            lock.release()

    def checkpoint(self, step: int) -> Path:
        """Return the path of the checkpoint of a step."""
        return self.path / f"{PREFIX}{step}"

    @property
    def has_remains(self) -> bool:
        """Whether there is more than the report of a finished run."""
        return bool(self._steps()) or any((self.path / name).exists() for name in (RECORD, BUNDLE))

    def last_checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint, None if there is none."""
        whole = [step for step in self._steps() if (self.checkpoint(step) / COMPLETE).is_file()]
        return self.checkpoint(max(whole)) if whole else None

    def keep_only(self, newest: int, best: int | None) -> None:
        """Declare the newest checkpoint whole, then remove every other one but the best.

        A mask that was kept before is dropped, as the run has learned more.
        """
        (self.path / BUNDLE).unlink(missing_ok=True)
        (self.checkpoint(newest) / COMPLETE).touch()
        self._remove([step for step in self._steps() if step not in {newest, best}])

    def keep(self, bundle: MaskBundle) -> None:
        """Keep what a run has learned, until the folder is finished.

        Raises:
            RunFolderError: It can't be written.
        """
        try:
            write_bundle(self.path / BUNDLE, bundle)
        except MaskStoreError as error:
            raise RunFolderError(f"{self.path}: the mask can't be kept there: {error}") from error

    def drop_checkpoints(self) -> None:
        """Remove all checkpoints, where the mask is kept instead of them."""
        self._remove(self._steps())

    def kept(self) -> MaskBundle | None:
        """Return what `keep` kept, None if there is nothing.

        Raises:
            RunFolderError: The file can't be read or is damaged.
        """
        path = self.path / BUNDLE
        try:
            return read_bundle(path) if path.exists() else None
        except (OSError, MaskStoreError) as error:
            raise RunFolderError(f"{path} can't be read: {error}; --fresh learns it again") from error

    def finish(self, report: Mapping[str, object], files: Mapping[str, str] | None = None) -> None:
        """Leave the report of a run that is published, and remove the rest.

        Args:
            report: What `REPORT` is to hold, as JSON values.
            files: Other forms of the report, by the names of their files.

        Killed before the record is gone, the run is resumed after its last epoch and publishes what was kept;
        killed after that, it is finished, and the next run removes the rest.
        """
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        for name, content in {**(files or {}), REPORT: text}.items():
            (self.path / name).write_text(content, encoding="utf-8", errors="backslashreplace")
        (self.path / RECORD).unlink(missing_ok=True)
        self._remove_run()

    def _claim(self, identity: Identity, fresh: bool) -> None:
        finished = (self.path / REPORT).exists() and not (self.path / RECORD).exists()
        begun = self.last_checkpoint() is not None or (self.path / BUNDLE).exists()
        if fresh or finished or not begun:
            self._remove_run()
            (self.path / RECORD).write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
        elif differences := _differences(self._record(), identity):
            raise RunMismatchError(
                f"{self.path} holds an unfinished run of other settings or data ({'; '.join(differences)}): "
                "give the same again to resume it, --fresh to drop it, or another --run-dir"
            )

    def _record(self) -> Identity:
        try:
            record = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _steps(self) -> list[int]:
        names = (folder.name.removeprefix(PREFIX) for folder in self.path.glob(f"{PREFIX}*"))
        return sorted(int(name) for name in names if name.isdigit())

    def _remove_run(self) -> None:
        (self.path / BUNDLE).unlink(missing_ok=True)
        self._remove(self._steps())

    def _remove(self, steps: Sequence[int]) -> None:
        """Remove checkpoints; the best one stays as long as the newest counts as whole."""
        for step in steps:
            (self.checkpoint(step) / COMPLETE).unlink(missing_ok=True)
        for step in steps:
            shutil.rmtree(self.checkpoint(step))


def _take(lock: FileLock, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RunInUseError(f"{path}: another process is learning here; choose another --run-dir") from None
    except OSError as error:
        raise RunFolderError(f"run folder {path} can't be written: {error.strerror or error}") from error


def _differences(old: Identity, new: Identity) -> list[str]:
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [f"{name}: {_short(old.get(name))}, now {_short(new.get(name))}" for name in names]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."  # noqa: PLR2004
