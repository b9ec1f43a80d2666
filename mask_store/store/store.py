"""Mask store: tasks with numbered, immutable versions and one `current` pointer each.

    STORE/store.json                               says that this is a store
    STORE/tasks/<task>/current.json                copy of the record of the current version
    STORE/tasks/<task>/versions/<number>.json      record of a version: digest, size, time
    STORE/tasks/<task>/bundles/<sha256>.safetensors
    STORE/orders/<task>.traffic.json               versions that are served side by side, where there are any
    STORE/orders/<task>.hold.json                  that the task is pinned to a version, or unloaded

A publish writes the bundle, then the record, then the pointer, each durable before the next. So whatever a
pointer or a record names exists whole at any instant, and a crash leaves at most a file that nothing names or
a version that is not current. docs/store.md goes through every instant.

This module is the public face: it opens stores and holds the lock while something is written. What is done to
one task is in `task_folder`, how bytes get to disk or network in `files`.
"""

import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from fsspec.config import conf as fsspec_settings
from fsspec.core import split_protocol, url_to_fs

from mask_store.errors import (
    InvalidTaskNameError,
    MaskStoreError,
    NotAFileError,
    RecordError,
    StoreFormatError,
    StoreNotFoundError,
    StoreNotWritableError,
    StoreUnavailableError,
    UnknownTaskError,
)
from mask_store.files import LOCK_SECONDS, Files, LocalFiles, RemoteFiles
from mask_store.format.bundle import MaskBundle
from mask_store.format.diff import BundleDiff, diff_bundles
from mask_store.format.limits import Limits
from mask_store.format.manifest import CombineRule, Manifest, utc_now
from mask_store.format.mask_info import TASK_NAME
from mask_store.messages import escape_controls
from mask_store.store import side_by_side
from mask_store.store.bundle_cache import BundleCache
from mask_store.store.ensemble import ensemble_of
from mask_store.store.holds import Hold
from mask_store.store.orders import ORDER_BYTES, ORDER_FILES, Order, order_at, parse_order
from mask_store.store.records import (
    POINTERS,
    RECORD_BYTES,
    History,
    Problem,
    Pruned,
    Rollback,
    Snapshot,
    VersionInfo,
    parse_version,
    task_at,
)
from mask_store.store.task_folder import TaskFolder
from mask_store.store.traffic import Traffic, TrafficPlan

_MARKER, _MARKER_BYTES = "store.json", b'{"format":"mask-store","version":1}\n'
_TIMEOUTS: Mapping[str, Mapping[str, object]] = {
    "s3": {"config_kwargs": {"connect_timeout": 3, "read_timeout": 10, "retries": {"total_max_attempts": 1}}},
    "gs": {"requests_timeout": 10},
}
"""Options of fsspec's file systems that bound their waits, unless fsspec's own configuration sets some."""
_PROTOCOLS = {"s3a": "s3", "gcs": "gs"}
_Record = TypeVar("_Record")
_Order = TypeVar("_Order", bound=Order)
_parsed = lru_cache(maxsize=1 << 17)(parse_version)
"""Pointers that were read before, of so many tasks."""


class MaskStore:
    """Versions of many tasks in a local folder or wherever fsspec reaches.

    Safe to use from several threads and processes at once. Every method that takes a task's name raises
    InvalidTaskNameError where no task can have that name, NotAFileError where a link, a pipe or the like lies
    in the place of one of its files, and StoreUnavailableError where the place of the store can't be reached
    or read. What writes raises StoreBusyError where others hold the store's lock for too long.
    """

    def __init__(
        self, files: Files, *, limits: Limits | None = None, cache: BundleCache | None = None
    ) -> None:
        """Not for callers: use `open`, which checks that there is a store."""
        self._files = files
        self._limits = limits or Limits()
        self._cache = cache

    @classmethod
    def open(
        cls,
        place: str | Path,
        *,
        create: bool = False,
        limits: Limits | None = None,
        lock_seconds: float = LOCK_SECONDS,
        cache: BundleCache | None = None,
    ) -> "MaskStore":
        """Open a store.

        Args:
            place: A folder, or a URL that fsspec knows, such as "s3://bucket/masks".
            create: Make a store where there is none.
            limits: What bundles to refuse as too large.
            lock_seconds: How long to wait for others that write to the same local store.
            cache: Where to keep copies of bundles that were loaded, if the store is not a local folder.

        Raises:
            StoreNotFoundError: If there is no store and `create` is not set.
            StoreFormatError: If the store has a layout that this version does not know.
            StoreNotWritableError: If it should be created and can't be.
            StoreFullError: If it should be created and there is no space.
        """
        files = _files_at(place, lock_seconds)
        try:
            _check_marker(files)
        except StoreNotFoundError:
            if not create:
                raise
            files.replace(_MARKER, _MARKER_BYTES)
        return cls(files, limits=limits, cache=None if isinstance(files, LocalFiles) else cache)

    def __str__(self) -> str:
        """Return where the store is."""
        return str(self._files)

    @property
    def caches(self) -> bool:
        """Whether copies of bundles are kept on this machine."""
        return self._cache is not None

    def check(self) -> None:
        """Make sure that the store is still there.

        Raises:
            StoreNotFoundError: If it is not, as when its disk was unmounted.
            StoreFormatError: If what is there has a layout that this version does not know.
        """
        _check_marker(self._files)

    def check_writable(self) -> None:
        """Make sure that something can be published, by writing a small file that goes again.

        Raises:
            StoreFullError: If there is no space.
            StoreNotWritableError: If the place can't be written to.
        """
        probe = f".tmp/{uuid.uuid4().hex}.probe"
        with self._writing():
            self._files.create(probe, b"")
            with suppress(StoreNotWritableError):  # who may write but not remove can publish
                self._files.remove(probe)

    def tasks(self) -> tuple[str, ...]:
        """Return the names of all tasks, sorted; those whose pointer is broken too."""
        snapshot = self.snapshot()
        return tuple(sorted([*snapshot.current, *(problem.task for problem in snapshot.problems)]))

    def snapshot(self) -> Snapshot:
        """Find the current version of every task: at most one small read a task, no bundle is opened.

        So do orders. Trouble with one task is reported in the snapshot and hides no other task.

        Raises:
            StoreNotFoundError: If the whole store is gone, as when its disk was unmounted.
        """
        files = self._files.read_matching((POINTERS, ORDER_FILES), max(RECORD_BYTES, ORDER_BYTES))
        pointers = {name: data for path, data in files.items() if (name := task_at(path)) is not None}
        if not pointers:
            _check_marker(self._files)
        found = {name: data for name, data in pointers.items() if TASK_NAME.fullmatch(name)}
        current, problems = _each_parsed(found, _parsed)
        orders = {order: data for path, data in files.items() if (order := order_at(path)) is not None}
        traffic, no_traffic = _orders(Traffic, orders, found)
        holds, no_holds = _orders(Hold, orders, found)
        return Snapshot(current, problems, traffic, holds, no_traffic + no_holds)

    def current(self, task: str) -> VersionInfo:
        """Return the current version of a task.

        Raises:
            UnknownTaskError: If there is no such task.
            RecordError: If its pointer can't be read.
        """
        return self._folder(task).current()

    def versions(self, task: str) -> tuple[VersionInfo, ...]:
        """Return all versions of a task that are not deleted and whose records can be read, oldest first.

        Raises:
            UnknownTaskError: If there is no such task.
        """
        return self.history(task).versions

    def history(self, task: str) -> History:
        """Return what `versions` does, and what can't be read of the task.

        Raises:
            UnknownTaskError: If there is no such task.
        """
        return self._folder(task).history()

    def version(self, task: str, number: int | None = None) -> VersionInfo:
        """Return one version of a task, or the current one.

        Raises:
            UnknownTaskError: If there is no such task.
            UnknownVersionError: If the task has no such version; says which it has.
            RecordError: If the record can't be read.
        """
        folder = self._folder(task)
        return folder.current() if number is None else folder.version(number)

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

    def describe(self, version: VersionInfo) -> Manifest:
        """Read the manifest of a version that this store has named, and of its bundle no more than that.

        Its header is checked; the bits and numbers, and the digest of the file, only when it is loaded.

        Raises:
            MissingBundleError: If the bundle file is gone.
            MaskStoreError: As `load`.
        """
        return self._folder(version.task).describe(version)

    def rollback(self, task: str, number: int | None = None) -> VersionInfo:
        """Make another version current, or the newest before the current one with other contents.

        The version is loaded and checked first, so a broken one never becomes current. Where none is named,
        broken ones are passed over.

        Returns:
            The version that is current now.

        Raises:
            NoEarlierVersionError: If `number` is None and there is none before the current one.
            TrafficError: If the task has traffic, which decides what is served.
            HeldError: If the task is pinned.
            MaskStoreError: As `load` and `publish`.
        """
        return self.rollback_and_load(task, number).version

    def rollback_and_load(self, task: str, number: int | None = None) -> Rollback:
        """Do what `rollback` does, and return all that it found out.

        Raises:
            MaskStoreError: As `rollback`.
        """
        folder = self._folder(task)
        with self._writing():
            return folder.roll_back(number)

    def traffic(self, task: str) -> Traffic | None:
        """Return the traffic of a task, active or aborted; None if it has none.

        Raises:
            UnknownTaskError: If there is no such task.
            RecordError: If it can't be read.
        """
        return self._there(self._folder(task)).traffic()

    def set_traffic(
        self,
        task: str,
        plan: TrafficPlan,
        *,
        check: side_by_side.Check | None = None,
    ) -> Traffic:
        """Have several versions of a task served side by side, in the place of what was set before.

        Args:
            task: The task's name.
            plan: The versions, their weights, the shadow, and when to abort.
            check: Given every version with its bundle before anything is written; what it raises ends it.

        Raises:
            TrafficError: If the versions can't be served side by side, or the stable one has to be named.
            HeldError: If the task is pinned.
            MaskStoreError: As `load` and `publish`.
        """
        with self._writing():
            return side_by_side.set_traffic(self._folder(task), plan, check)

    def promote(self, task: str, number: int | None = None) -> VersionInfo:
        """Make a version that has traffic the current one, which is then served alone.

        Args:
            task: The task's name.
            number: The version; None for the only one beside the stable one.

        Raises:
            TrafficError: If there is no traffic, or not of this version, or the version has to be named.
            HeldError: If the task is pinned.
            MaskStoreError: As `load` and `publish`.
        """
        with self._writing():
            return side_by_side.promote(self._folder(task), number)

    def abort_traffic(self, task: str, reason: str, *, only: Traffic | None = None) -> Traffic:
        """End the traffic of a task: the stable version becomes current and is served alone.

        Args:
            task: The task's name.
            reason: Why, for people; kept with the traffic.
            only: End it only if it is still this; None to end whatever is set.

        Raises:
            TrafficError: If there is no traffic, or not `only` that.
            MaskStoreError: As `publish`.
        """
        with self._writing():
            return side_by_side.abort(self._folder(task), reason, only)

    def hold(self, task: str) -> Hold | None:
        """Return what a task is held at; None if it is not held.

        Raises:
            UnknownTaskError: If there is no such task.
            RecordError: If it can't be read.
        """
        return self._there(self._folder(task)).hold()

    def pin(
        self,
        task: str,
        number: int,
        *,
        check: side_by_side.Check | None = None,
    ) -> Hold:
        """Have one version served alone, whatever is current, until the task is released.

        Args:
            task: The task's name.
            number: The version; it is loaded and checked first.
            check: As of `set_traffic`.

        Raises:
            MaskStoreError: As `load` and `publish`.
        """
        folder = self._folder(task)
        with self._writing():
            version = folder.version(number)
            bundle = folder.load(version)
            if check is not None:
                check(version, bundle)
            return self._held(folder, Hold(task=task, version=number, since=utc_now()))

    def unload(self, task: str) -> Hold:
        """Have no version of a task served until it is released.

        Raises:
            UnknownTaskError: If there is no such task.
            MaskStoreError: As `publish`.
        """
        with self._writing():
            folder = self._there(self._folder(task))
            return self._held(folder, Hold(task=task, version=None, since=utc_now()))

    def release(self, task: str) -> Hold | None:
        """End the hold of a task, so that its current version is served, or what has traffic.

        Returns:
            What it was; None if there was none, or it could not be read.

        Raises:
            UnknownTaskError: If there is no such task.
            MaskStoreError: As `publish`.
        """
        hold = None
        with self._writing():
            folder = self._there(self._folder(task))
            with suppress(RecordError):
                hold = folder.hold()
            folder.remove_order(Hold)
        return hold

    def delete(self, task: str, number: int | None = None) -> None:
        """Delete one version that is neither current, nor has traffic, nor is pinned; or a whole task.

        A version's number is not given out again while the task exists. A deletion that was interrupted is
        finished by deleting again.

        Raises:
            UnknownTaskError: If there is no such task.
            UnknownVersionError: If the task has no such version.
            CurrentVersionError: If the version is current.
            TrafficError: If the version has traffic.
            HeldError: If the task is pinned to the version.
            StoreNotWritableError: If the place can't be written to.
        """
        folder = self._folder(task)
        with self._writing():
            if number is None:
                folder.delete()
            else:
                folder.delete_version(number)

    def prune(
        self,
        tasks: Sequence[str] | None = None,
        *,
        keep: int = 0,
        recent: timedelta | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        """Delete the versions of tasks that are neither served, nor among the newest, nor recent.

        Served are the current one, those that have traffic, and the one that the task is pinned to.

        Args:
            tasks: Names; None for all.
            keep: How many of the newest versions of each task stay, the current one counted if it is one.
            recent: How long ago a version that stays was published at most; None to keep none for that.
            dry_run: Only say what would be deleted.

        Returns:
            What was deleted. A task whose records can't be read keeps all its versions, and is a problem.

        Raises:
            UnknownTaskError: If there is no such task; then nothing is deleted.
            StoreNotWritableError: If the place can't be written to.
        """
        before = None if recent is None else utc_now() - recent
        folders = {name: self._folder(name) for name in tasks or self.tasks()}
        unknown = (folder for folder in folders.values() if not folder.exists())
        if (folder := next(unknown, None)) is not None:
            raise folder.unknown()
        versions, problems = list[VersionInfo](), list[Problem]()
        with nullcontext() if dry_run else self._writing():
            for name, folder in folders.items():
                try:
                    versions += folder.prune(keep, before, dry_run=dry_run)
                except (UnknownTaskError, RecordError, NotAFileError) as error:
                    problems.append(Problem.of(error, name))
        return Pruned(tuple(versions), tuple(problems))

    def verify(self, task: str | None = None) -> tuple[Problem, ...]:
        """Read and check every version of one task or of all, and say what is wrong. Changes nothing.

        Raises:
            UnknownTaskError: If there is no such task.
        """
        if task is not None:
            return tuple(self._there(self._folder(task)).verify())
        problems: list[Problem] = []
        for name in self._files.list("tasks"):
            try:
                problems += self._folder(name).verify()
            except InvalidTaskNameError as error:
                problems.append(Problem.of(error, escape_controls(name)))
        return tuple(problems)

    def clean(self) -> tuple[str, ...]:
        """Remove what no version names: bundles of publishes that were killed, and old temporary files.

        Where there is no lock, as on object stores, bundles younger than an hour stay.

        Returns:
            Paths of the bundles that were removed, relative to the store.

        Raises:
            StoreNotWritableError: If the place can't be written to.
        """
        removed: list[str] = []
        with self._writing() as locked:
            for name in self._files.list("tasks"):
                if TASK_NAME.fullmatch(name):
                    with suppress(NotAFileError):
                        removed += self._folder(name).clean(locked=locked)
        return tuple(removed)

    def diff(self, task: str, a: int, b: int) -> BundleDiff:
        """Compare two versions of a task bit by bit.

        Raises:
            MaskStoreError: As `load`.
        """
        return diff_bundles(self.load(task, a), self.load(task, b))

    def _held(self, folder: TaskFolder, hold: Hold) -> Hold:
        folder.write_order(hold)
        return hold

    def _there(self, folder: TaskFolder) -> TaskFolder:
        """Return a folder, unless there is nothing of its task."""
        if not folder.exists():
            raise folder.unknown()
        return folder

    @contextmanager
    def _writing(self) -> Iterator[bool]:
        """Hold the lock; gives whether there is one."""
        _check_marker(self._files)
        with self._files.lock() as locked:
            self._files.sweep()
            yield locked

    def _folder(self, task: str) -> TaskFolder:
        return TaskFolder(self._files, task, self._limits, self._cache)


def _check_marker(files: Files) -> None:
    try:
        marker = files.read(_MARKER, RECORD_BYTES)
    except FileNotFoundError:
        raise StoreNotFoundError(f"no mask store at {files}: expected {_MARKER} there") from None
    if marker != _MARKER_BYTES:
        raise StoreFormatError(f"{files}: expected {_MARKER_BYTES.decode().strip()} in {_MARKER}")


def _each_parsed(
    files: Mapping[str, bytes | Exception], parse: Callable[[bytes, str], _Record]
) -> tuple[dict[str, _Record], tuple[Problem, ...]]:
    """Parse a file of each task, and tell what is wrong with which; tasks that have none are left out."""
    found, problems = dict[str, _Record](), list[Problem]()
    for task, data in files.items():
        try:
            if isinstance(data, bytes):
                found[task] = parse(data, task)
            elif isinstance(data, MaskStoreError):
                raise data
        except MaskStoreError as error:
            problems.append(Problem.of(error, task))
    return found, tuple(problems)


def _orders(
    form: type[_Order], orders: Mapping[tuple[str, str], bytes | Exception], tasks: Container[str]
) -> tuple[Mapping[str, _Order], tuple[Problem, ...]]:
    """Parse those orders, by task and kind, that are of one kind and of one of these tasks."""
    files = {task: data for (task, kind), data in orders.items() if kind == form.kind and task in tasks}
    return _each_parsed(files, partial(parse_order, form))


def _files_at(place: str | Path, lock_seconds: float) -> Files:
    address = str(place)
    protocol, _ = split_protocol(address)
    if protocol is None:
        return LocalFiles(Path(place), lock_seconds=lock_seconds)
    try:
        filesystem, root = url_to_fs(address, use_listings_cache=False, **_timeouts(protocol))
    except Exception as error:  # of fsspec, or of any library that it uses
        raise StoreUnavailableError(f"can't open a store at {address}: {error}") from None
    if protocol in ("file", "local"):
        return LocalFiles(Path(root), lock_seconds=lock_seconds)
    return RemoteFiles(filesystem, root)


def _timeouts(protocol: str) -> Mapping[str, object]:
    options = _TIMEOUTS.get(_PROTOCOLS.get(protocol, protocol), {})
    return {name: value for name, value in options.items() if name not in fsspec_settings.get(protocol, {})}
