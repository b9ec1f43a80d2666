"""Mask store: tasks with numbered, immutable versions and one `current` pointer each.

    STORE/store.json                               says that this is a store
    STORE/tasks/<task>/current.json                copy of the record of the current version
    STORE/tasks/<task>/versions/<number>.json      record of a version: digest, size, time
    STORE/tasks/<task>/bundles/<sha256>.safetensors

A publish writes the bundle, then the record, then the pointer, each durable before the next. So whatever a
pointer or a record names exists whole at any instant, and a crash leaves at most a file that nothing names or
a version that is not current. docs/store.md goes through every instant.

This module is the public face: it opens stores and holds the lock while something is written. What is done to
one task is in `task_folder`, how bytes get to disk or network in `files`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fsspec.core import url_to_fs

from mask_store.errors import (
    InvalidTaskNameError,
    MaskStoreError,
    StoreFormatError,
    StoreNotFoundError,
    StoreNotWritableError,
    StoreUnavailableError,
)
from mask_store.files import Files, LocalFiles, RemoteFiles
from mask_store.format.bundle import MaskBundle
from mask_store.format.diff import BundleDiff, diff_bundles
from mask_store.format.limits import Limits
from mask_store.format.manifest import CombineRule
from mask_store.format.mask_info import TASK_NAME
from mask_store.store.ensemble import ensemble_of
from mask_store.store.records import Problem, Snapshot, VersionInfo, current_path, parse_version
from mask_store.store.task_folder import TaskFolder

_MARKER, _MARKER_BYTES = "store.json", b'{"format":"mask-store","version":1}\n'


class MaskStore:
    """Versions of many tasks in a local folder or wherever fsspec reaches.

    Safe to use from several threads and processes at once. Every method that takes a task's name raises
    InvalidTaskNameError where no task can have that name, and StoreUnavailableError where the place of the
    store can't be reached or read.
    """

    def __init__(self, files: Files, *, limits: Limits | None = None) -> None:
        """Not for callers: use `open`, which checks that there is a store."""
        self._files = files
        self._limits = limits or Limits()

    @classmethod
    def open(cls, place: str | Path, *, create: bool = False, limits: Limits | None = None) -> "MaskStore":
        """Open a store.

        Args:
            place: A folder, or a URL that fsspec knows, such as "s3://bucket/masks".
            create: Make a store where there is none.
            limits: What bundles to refuse as too large.

        Raises:
            StoreNotFoundError: If there is no store and `create` is not set.
            StoreFormatError: If the store has a layout that this version does not know.
            StoreNotWritableError: If it should be created and can't be.
            StoreFullError: If it should be created and there is no space.
        """
        files = _files_at(place)
        try:
            _check_marker(files)
        except StoreNotFoundError:
            if not create:
                raise
            _create(files)
        return cls(files, limits=limits)

    def __str__(self) -> str:
        """Return where the store is."""
        return str(self._files)

    def check(self) -> None:
        """Make sure that the store is still there.

        Raises:
            StoreNotFoundError: If it is not, as when its disk was unmounted.
            StoreFormatError: If what is there has a layout that this version does not know.
        """
        _check_marker(self._files)

    def tasks(self) -> tuple[str, ...]:
        """Return the names of all tasks, sorted; those whose pointer is broken too."""
        snapshot = self.snapshot()
        return tuple(sorted([*snapshot.current, *(problem.task for problem in snapshot.problems)]))

    def snapshot(self) -> Snapshot:
        """Find the current version of every task: one small read a task, no bundle is opened.

        Trouble with one task is reported in the snapshot and hides no other task.

        Raises:
            StoreNotFoundError: If the whole store is gone, as when its disk was unmounted.
        """
        current, problems = {}, []
        names = [name for name in self._files.list("tasks") if TASK_NAME.fullmatch(name)]
        if not names:
            _check_marker(self._files)
        found = self._files.read_many([current_path(name) for name in names])
        for name, data in zip(names, found, strict=True):
            try:
                if isinstance(data, bytes):
                    current[name] = parse_version(data, name)
                elif isinstance(data, MaskStoreError):
                    raise data
            except MaskStoreError as error:
                problems.append(Problem.of(error, name))
        return Snapshot(current, tuple(problems))

    def current(self, task: str) -> VersionInfo:
        """Return the current version of a task.

        Raises:
            UnknownTaskError: If there is no such task.
            RecordError: If its pointer can't be read.
        """
        return self._folder(task).current()

    def versions(self, task: str) -> tuple[VersionInfo, ...]:
        """Return all versions of a task that are not deleted, oldest first.

        Raises:
            UnknownTaskError: If there is no such task.
            RecordError: If a record can't be read.
        """
        folder = self._folder(task)
        folder.current()
        return folder.versions()

    def version(self, task: str, number: int | None = None) -> VersionInfo:
        """Return one version of a task, or the current one.

        Raises:
            UnknownTaskError: If there is no such task.
            UnknownVersionError: If the task has no such version; says which it has.
            RecordError: If the record can't be read.
        """
        folder = self._folder(task)
        current = folder.current()
        return current if number is None else folder.version(number)

    def publish(self, bundle: MaskBundle) -> VersionInfo:
        """Make a bundle the current version of its task.

        When this returns, the version survives a crash. Publishing what is current already makes no new
        version.

        Returns:
            The new version, or the current one if it is the same bundle.

        Raises:
            BundleTooLargeError: If it is over this store's limits.
            StoreFullError: If there is no space; what was current stays so.
            StoreNotWritableError: If the place can't be written to.
        """
        bundle.check_limits(self._limits)
        with self._writing():
            return self._folder(bundle.manifest.task).publish(bundle)

    def publish_ensemble(
        self,
        task: str,
        combine: CombineRule,
        members: Sequence[tuple[str, int | None]],
        *,
        metrics: Mapping[str, float] | None = None,
    ) -> VersionInfo:
        """Make an ensemble of versions in this store and publish it; it holds copies of them.

        Args:
            task: Name of the ensemble.
            combine: What its answers are made of; see `ensemble_of`.
            members: Task and number of the version, None for the current one; 2 to 64.
            metrics: Dev metrics of the members together, where they were measured.

        Raises:
            EnsembleError: If these members can't answer as one task.
            BundleTooLargeError: If they are together more than this store's limits allow.
            MaskStoreError: As `load` and `publish`.
        """
        self._folder(task)
        versions = [self.version(name, number) for name, number in members]
        loaded = [(version, self._folder(version.task).load(version)) for version in versions]
        return self.publish(ensemble_of(task, combine, loaded, metrics=metrics))

    def load(self, task: str | VersionInfo, number: int | None = None) -> MaskBundle:
        """Read a version and check all of it.

        Args:
            task: A version that this store has named, of which only the bundle is read; or a task's name.
            number: With a name, the number of its version; None for the current one.

        Raises:
            UnknownTaskError: If there is no such task.
            UnknownVersionError: If the task has no such version.
            RecordError: If the record can't be read.
            MissingBundleError: If the bundle file is gone.
            DigestMismatchError: If it is not the file that was published.
            BundleError: One of its subclasses, if the file is not a valid bundle.
        """
        version = self.version(task, number) if isinstance(task, str) else task
        return self._folder(version.task).load(version)

    def rollback(self, task: str, number: int | None = None) -> VersionInfo:
        """Make another version current, or the newest before the current one with other contents.

        The version is loaded and checked first, so a broken one never becomes current.

        Returns:
            The version that is current now.

        Raises:
            NoEarlierVersionError: If `number` is None and there is none before the current one.
            MaskStoreError: As `load` and `publish`.
        """
        return self.rollback_and_load(task, number)[0]

    def rollback_and_load(self, task: str, number: int | None = None) -> tuple[VersionInfo, MaskBundle]:
        """Do what `rollback` does, and return the version's bundle as well, which it has to read anyway.

        Raises:
            MaskStoreError: As `rollback`.
        """
        folder = self._folder(task)
        with self._writing():
            current = folder.current()
            version = folder.before(current) if number is None else folder.version(number)
            bundle = folder.load(version)
            folder.point_to(version)
        return version, bundle

    def delete(self, task: str, number: int | None = None) -> None:
        """Delete one version that is not current, or a whole task.

        A version's number is not given out again while the task exists. A deletion that was interrupted is
        finished by deleting again.

        Raises:
            UnknownTaskError: If there is no such task.
            UnknownVersionError: If the task has no such version.
            CurrentVersionError: If the version is current.
            StoreNotWritableError: If the place can't be written to.
        """
        folder = self._folder(task)
        with self._writing():
            if number is None:
                folder.delete()
            else:
                folder.delete_version(number)

    def verify(self, task: str | None = None) -> tuple[Problem, ...]:
        """Read and check every version of one task or of all, and say what is wrong. Changes nothing.

        Raises:
            UnknownTaskError: If there is no such task.
        """
        if task is not None:
            folder = self._folder(task)
            if not folder.exists():
                raise folder.unknown()
            return tuple(folder.verify())
        problems: list[Problem] = []
        for name in self._files.list("tasks"):
            try:
                problems += self._folder(name).verify()
            except InvalidTaskNameError as error:
                problems.append(Problem.of(error, name))
        return tuple(problems)

    def diff(self, task: str, a: int, b: int) -> BundleDiff:
        """Compare two versions of a task bit by bit.

        Raises:
            MaskStoreError: As `load`.
        """
        return diff_bundles(self.load(task, a), self.load(task, b))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        _check_marker(self._files)
        with self._files.lock():
            self._files.sweep()
            yield

    def _folder(self, task: str) -> TaskFolder:
        return TaskFolder(self._files, task, self._limits)


def _create(files: Files) -> None:
    try:
        files.replace(_MARKER, _MARKER_BYTES)
    except FileNotFoundError as error:  # a place that takes no folders, such as /proc
        raise StoreNotWritableError(f"the store can't be created: {files}: {error.strerror}") from error


def _check_marker(files: Files) -> None:
    try:
        marker = files.read(_MARKER)
    except FileNotFoundError:
        raise StoreNotFoundError(f"no mask store at {files}: expected {_MARKER} there") from None
    if marker != _MARKER_BYTES:
        raise StoreFormatError(f"{files}: expected {_MARKER_BYTES.decode().strip()} in {_MARKER}")


def _files_at(place: str | Path) -> Files:
    address = str(place)
    if "://" not in address:
        return LocalFiles(Path(place))
    try:
        filesystem, root = url_to_fs(address, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise StoreUnavailableError(f"can't open a store at {address}: {error}") from None
    if address.startswith(("file://", "local://")):
        return LocalFiles(Path(root))
    return RemoteFiles(filesystem, root)
