"""Task folder: the versions, the pointer and the bundles of one task of a store.

What is written here is safe against crashes by its order, and against other publishers by exclusive creation
of records; holding the store's lock is up to the caller.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from mask_store.errors import (
    BundleError,
    CurrentVersionError,
    DigestMismatchError,
    HeldError,
    InvalidTaskNameError,
    LeftoverError,
    MaskStoreError,
    MissingBundleError,
    NoEarlierVersionError,
    NotAFileError,
    RecordError,
    StoreFullError,
    TrafficError,
    UnknownTaskError,
    UnknownVersionError,
)
from mask_store.files import STALE_SECONDS, Files
from mask_store.format.bundle import MaskBundle, digest_of, read_manifest
from mask_store.format.container import header_end
from mask_store.format.limits import Limits
from mask_store.format.manifest import Manifest, utc_now
from mask_store.format.mask_info import TASK_NAME, TASK_NAME_RULE
from mask_store.store.bundle_cache import BundleCache
from mask_store.store.holds import Hold
from mask_store.store.orders import ORDER_BYTES, Order, order_bytes, order_path, parse_order
from mask_store.store.records import (
    MAX_NUMBER,
    RECORD_BYTES,
    History,
    Problem,
    Rollback,
    Tombstone,
    VersionInfo,
    bundle_path,
    current_path,
    number_in,
    parse_record,
    parse_version,
    record_bytes,
    record_path,
    task_path,
)
from mask_store.store.traffic import Traffic

_Order = TypeVar("_Order", bound=Order)

_DAMAGED = (RecordError, NotAFileError)
"""What is raised where a record or a pointer can't be understood, now or later."""
_LOST = (MissingBundleError, DigestMismatchError)
_START_BYTES = 32 << 10
"""What is read of a bundle for its header alone; a longer one takes a second read."""
_INTERRUPTED = "no current version: a publish or a deletion was interrupted; publish again or delete it again"


class TaskFolder:
    """The files of one task, which need not exist yet."""

    def __init__(self, files: Files, task: str, limits: Limits, cache: BundleCache | None = None) -> None:
        """Use the files of `task`.

        Args:
            files: Of the store.
            task: Its name.
            limits: What bundles to refuse as too large.
            cache: Where copies of bundles that were loaded are kept.

        Raises:
            InvalidTaskNameError: If no task can have this name.
        """
        if not TASK_NAME.fullmatch(task):
            raise InvalidTaskNameError(f"no task can be called {task!r:.80}: expected {TASK_NAME_RULE}")
        self._files, self._task, self._limits, self._cache = files, task, limits, cache

    def exists(self) -> bool:
        """Tell whether there is anything of the task, be it the leftovers of an interruption."""
        try:
            return bool(self._files.list(task_path(self._task)))
        except NotAFileError:
            return True

    def current(self) -> VersionInfo:
        """Return the current version."""
        try:
            return parse_version(self._files.read(current_path(self._task), RECORD_BYTES), self._task)
        except FileNotFoundError:
            raise self.unknown() from None

    def version(self, number: int) -> VersionInfo:
        """Return the version with a number."""
        record = None
        if 1 <= number <= MAX_NUMBER:
            with suppress(FileNotFoundError):
                data = self._files.read(record_path(self._task, number), RECORD_BYTES)
                record = parse_record(data, self._task, number)
        if isinstance(record, VersionInfo):
            return record
        raise self._unknown_version(number)

    def history(self) -> History:
        """Return all versions that are not deleted, oldest first, and what can't be read of the task."""
        versions, problems = [], []
        current = self._current_or_error()
        if isinstance(current, UnknownTaskError):
            raise current
        if isinstance(current, MaskStoreError):
            problems.append(Problem.of(current, self._task))
        for number, record in self._records():
            if isinstance(record, MaskStoreError):
                problems.append(Problem.of(record, self._task, number))
            elif isinstance(record, VersionInfo):
                versions.append(record)
        known = current if isinstance(current, VersionInfo) else None
        return History(known, tuple(versions), tuple(problems))

    def traffic(self) -> Traffic | None:
        """Return the task's traffic, active or aborted; None if there is none."""
        return self._order(Traffic)

    def hold(self) -> Hold | None:
        """Return the task's hold; None if there is none."""
        return self._order(Hold)

    def write_order(self, order: Order) -> None:
        """Give an order, in the place of one of its kind."""
        self._files.replace(order_path(self._task, order.kind), order_bytes(order))

    def remove_order(self, form: type[Order]) -> None:
        """Take an order back, if there is one of this kind."""
        self._files.remove(order_path(self._task, form.kind))

    def check_not_pinned(self) -> None:
        """Make sure that the version which is served may be another one.

        Raises:
            HeldError: The task is pinned.
        """
        if (hold := self.hold()) is not None and hold.version is not None:
            raise HeldError(f"task {self._task!r} is {hold}: release it first")

    def _order(self, form: type[_Order]) -> _Order | None:
        try:
            return parse_order(
                form, self._files.read(order_path(self._task, form.kind), ORDER_BYTES), self._task
            )
        except FileNotFoundError:
            return None

    def roll_back(self, number: int | None) -> Rollback:
        """Point to a version that can be loaded: the one named, or the newest before the current one."""
        self.check_not_pinned()
        if (traffic := self.traffic()) is not None and traffic.active:
            raise TrafficError(
                f"traffic decides what is served of task {self._task!r} ({traffic}): promote or abort it"
            )
        if number is None:
            done = self._newest_before_current()
        else:
            version = self.version(number)
            done = Rollback(version, self.load(version), self.current_or_none(), ())
        self.point_to(done.version)
        return done

    def _newest_before_current(self) -> Rollback:
        """Load the newest version before the current one with other contents that is not damaged."""
        try:
            current = self.current()
        except _DAMAGED as error:
            raise type(error)(f"{error}; say to which version to roll back") from None
        history = self.history()
        problems, failure = [*history.problems], None
        for version in reversed(history.versions):
            if version.number < current.number and version.digest != current.digest:
                try:
                    return Rollback(version, self.load(version), current, tuple(problems))
                except (BundleError, *_DAMAGED, *_LOST) as error:
                    problems.append(Problem.of(error, self._task, version.number))
                    failure = failure or error
        raise failure or NoEarlierVersionError(f"{current}: no earlier version to roll back to")

    def load(self, version: VersionInfo, *, checksum: bool = False) -> MaskBundle:
        """Read the bundle of a version and check it against its record and in itself.

        Args:
            version: A version of this task.
            checksum: Read the store's own file, and check the bundle's own checksum too, which the record's
                digest makes needless.
        """
        data = None if checksum else self._kept(version)
        if data is None:
            data = self._read_bundle(version)
            if self._cache is not None:
                self._cache.keep(version.digest, data)
        bundle = MaskBundle.from_bytes(data, limits=self._limits, digest=None if checksum else version.digest)
        _checked_name(bundle.manifest, version)
        return bundle

    def describe(self, version: VersionInfo) -> Manifest:
        """Read the manifest of a version and check the header that it stands in; see `MaskStore.describe`."""
        self._limits.check("file", f"bundle of {version}", version.size)
        data = self._kept(version)
        if data is None:
            data = self._read_start(version, _START_BYTES)
            if len(data) < (end := header_end(data, self._limits)):
                data = self._read_start(version, end)
        manifest = read_manifest(data, version.size, limits=self._limits)
        return _checked_name(manifest, version)

    def publish(self, bundle: MaskBundle) -> VersionInfo:
        """Write a bundle, then its record, then the pointer; each is durable before the next is begun."""
        data = bundle.to_bytes()
        current = self.current_or_none()
        unchanged = current is not None and current.digest == bundle.digest
        if current and unchanged and self._is_intact(current):
            return current
        self._files.replace(bundle_path(self._task, bundle.digest), data)
        if current and unchanged:
            return current
        version = self._create_record(bundle.digest, len(data))
        self.point_to(version)
        return version

    def point_to(self, version: VersionInfo) -> None:
        """Make a version current."""
        self._files.replace(current_path(self._task), record_bytes(version))

    def delete(self) -> None:
        """Remove everything: the pointer first, then orders and records, then bundles, which none names."""
        if not self.exists():
            raise self.unknown()
        with suppress(NotAFileError):  # the task's folder is a link: that is removed, and nothing behind it
            self._files.remove(current_path(self._task))
            self.remove_order(Traffic)
            self.remove_order(Hold)
            self._files.remove(f"{task_path(self._task)}/versions")
        self._files.remove(task_path(self._task))

    def delete_version(self, number: int) -> None:
        """Leave a tombstone for a version, then remove its bundle unless another version needs it."""
        current = self.current()
        if number == current.number:
            raise CurrentVersionError(f"{current} is current: roll back first, or delete the whole task")
        if number in self._in_traffic():
            raise TrafficError(f"task {self._task!r} version {number} has traffic: promote or abort it")
        if number in self._pinned():
            raise HeldError(f"task {self._task!r} is pinned to version {number}: release it first")
        records = dict(self._records())
        if number not in records:
            raise self._unknown_version(number)
        self._bury({number}, records, current)

    def prune(self, keep: int, before: datetime | None, *, dry_run: bool) -> list[VersionInfo]:
        """Delete versions that nobody serves, not of the newest `keep`, and older than a time.

        Returns:
            What was deleted, or would be, oldest first.

        Raises:
            RecordError: A record or an order can't be read, so that all stay.
        """
        current, named, records = self.current(), self._ordered(), dict(self._records())
        for record in records.values():
            if isinstance(record, MaskStoreError):
                raise record
        versions = [record for record in records.values() if isinstance(record, VersionInfo)]
        older = versions[:-keep] if keep else versions
        unused = [one for one in older if one != current and one.number not in named]
        gone = [one for one in unused if before is None or one.published < before]
        if not dry_run and gone:
            self._bury({version.number for version in gone}, records, current)
        return gone

    def _bury(
        self,
        numbers: Set[int],
        records: Mapping[int, VersionInfo | Tombstone | MaskStoreError],
        current: VersionInfo,
    ) -> None:
        """Leave tombstones for versions, then remove each bundle that no other version needs."""
        gone = set[str]()
        for number in sorted(numbers):
            record = records[number]
            digest = None if isinstance(record, MaskStoreError) else record.digest
            if not isinstance(record, Tombstone):
                tombstone = Tombstone(task=self._task, number=number, digest=digest, deleted=utc_now())
                self._files.replace(record_path(self._task, number), record_bytes(tombstone))
            gone |= {digest} if digest else set()
        left = (record for number, record in records.items() if number not in numbers)
        kept = {current.digest} | {one.digest for one in left if isinstance(one, VersionInfo)}
        for digest in sorted(gone - kept):
            self._files.remove(bundle_path(self._task, digest))

    def verify(self) -> Iterator[Problem]:
        """Read everything and say what is wrong."""
        try:
            yield from self._verify()
        except NotAFileError as error:
            yield Problem.of(error, self._task)

    def _verify(self) -> Iterator[Problem]:
        records, current = dict(self._records()), self._current_or_error()
        if isinstance(current, UnknownTaskError):
            if any(isinstance(record, VersionInfo) for record in records.values()):
                yield Problem(self._task, None, UnknownTaskError.__name__, _INTERRUPTED)
        elif isinstance(current, MaskStoreError):
            yield Problem.of(current, self._task)
        elif records.get(current.number) != current:
            message = f"{current} is current but its record is missing or says something else"
            yield Problem(self._task, None, RecordError.__name__, message)
        yield from self._verify_order("traffic", self._in_traffic, TrafficError, records)
        yield from self._verify_order("hold", self._pinned, HeldError, records)
        for number, record in records.items():
            try:
                if isinstance(record, MaskStoreError):
                    raise record
                if isinstance(record, VersionInfo):
                    self.load(record, checksum=True)
            except Exception as error:  # whatever one version does, the others are looked at
                yield Problem.of(error, self._task, number)
        for name in self._files.list(f"{task_path(self._task)}/versions"):
            if number_in(name) is None:
                message = f"versions/{name!r:.80}: no record is called so; expected 00000001.json and so on"
                yield Problem(self._task, None, LeftoverError.__name__, message)
        for name in self._unnamed_bundles([current, *records.values()]):
            message = f"bundles/{name!r:.80}: no version names it (a killed publish?); `clean` removes it"
            yield Problem(self._task, None, LeftoverError.__name__, message)

    def _verify_order(
        self,
        what: str,
        read: Callable[[], Set[int]],
        kind: type[MaskStoreError],
        records: Mapping[int, VersionInfo | Tombstone | MaskStoreError],
    ) -> Iterator[Problem]:
        try:
            named = read()
        except _DAMAGED as error:
            yield Problem.of(error, self._task)
            return
        for number in sorted(named):
            if not isinstance(records.get(number), VersionInfo):
                message = f"the {what} names version {number}, which there is not"
                yield Problem(self._task, number, kind.__name__, message)

    def clean(self, *, locked: bool) -> Iterator[str]:
        """Remove bundles that no version names; give the path of each.

        Args:
            locked: Whether publishers are held back. If not, what is young may belong to one of them.
        """
        records = [self._current_or_error(), *(record for _, record in self._records())]
        for name in self._unnamed_bundles(records):
            path = f"{task_path(self._task)}/bundles/{name}"
            with suppress(FileNotFoundError):
                if locked or self._files.age(path) > STALE_SECONDS:
                    self._files.remove(path)
                    yield path

    def unknown(self) -> UnknownTaskError:
        """Make the error that says there is no such task."""
        return UnknownTaskError(f"no task {self._task!r} in {self._files}")

    def _unknown_version(self, number: int) -> UnknownVersionError:
        history = self.history()  # raises where there is no such task
        there = ", ".join(str(version.number) for version in history.versions) or "none"
        asked = str(number) if abs(number) <= MAX_NUMBER else f"above {MAX_NUMBER}"
        return UnknownVersionError(f"task {self._task!r} has no version {asked}, it has {there}")

    def _unnamed_bundles(self, records: Iterable[VersionInfo | Tombstone | MaskStoreError]) -> list[str]:
        """Return names of bundle files that no record has; none while one can't be read: it may name any."""
        named = set()
        for record in records:
            if isinstance(record, VersionInfo):
                named.add(bundle_path(self._task, record.digest).rpartition("/")[2])
            elif not isinstance(record, Tombstone | UnknownTaskError):
                return []
        return [n for n in self._files.list(f"{task_path(self._task)}/bundles") if n not in named]

    def _kept(self, version: VersionInfo) -> bytes | None:
        """Return the bundle of a version from the cache on this machine, if it is there, whole."""
        return None if self._cache is None else self._cache.read(version.digest, version.size)

    def _read_start(self, version: VersionInfo, most: int) -> bytes:
        try:
            return self._files.read(bundle_path(self._task, version.digest), most)
        except FileNotFoundError:
            raise MissingBundleError(f"{version}: its bundle file is gone") from None

    def _read_bundle(self, version: VersionInfo) -> bytes:
        """Read the bundle of a version from the store, and check it against its record."""
        self._limits.check("file", f"bundle of {version}", version.size)
        data = self._read_start(version, version.size + 1)
        expected = f"{version}: expected {version.size} bytes of digest {version.digest}"
        if len(data) != version.size:
            found = f"{len(data)} bytes" if len(data) < version.size else "more"
            raise DigestMismatchError(f"{expected}, found {found}")
        if (digest := digest_of(data)) != version.digest:
            raise DigestMismatchError(f"{expected}, found as many of digest {digest}")
        return data

    def _is_intact(self, version: VersionInfo) -> bool:
        try:
            self._read_bundle(version)
        except (*_LOST, NotAFileError):
            return False
        return True

    def current_or_none(self) -> VersionInfo | None:
        """Return the current version; None where there is none or its record can't be read."""
        current = self._current_or_error()
        return current if isinstance(current, VersionInfo) else None

    def _current_or_error(self) -> VersionInfo | UnknownTaskError | RecordError | NotAFileError:
        try:
            return self.current()
        except (UnknownTaskError, *_DAMAGED) as error:
            return error

    def _in_traffic(self) -> Set[int]:
        """Return the versions that active traffic names."""
        traffic = self.traffic()
        return {*traffic.versions} if traffic is not None and traffic.active else set()

    def _pinned(self) -> Set[int]:
        """Return the version that the task is pinned to, if it is."""
        hold = self.hold()
        return set() if hold is None or hold.version is None else {hold.version}

    def _ordered(self) -> Set[int]:
        """Return the versions that are served by an order."""
        return self._in_traffic() | self._pinned()

    def _create_record(self, digest: str, size: int) -> VersionInfo:
        """Take the next free number; creation is exclusive, so two publishers never get the same one."""
        number = max(self._numbers(), default=0) + 1
        while True:
            if number > MAX_NUMBER:
                raise StoreFullError(f"task {self._task!r} has used the last number, {MAX_NUMBER}; delete it")
            version = VersionInfo(self._task, number, digest, size, utc_now())
            try:
                self._files.create(record_path(self._task, number), record_bytes(version))
            except FileExistsError:
                number += 1
            else:
                return version

    def _numbers(self) -> list[int]:
        names = self._files.list(f"{task_path(self._task)}/versions")
        return sorted(number for name in names if (number := number_in(name)))

    def _records(self) -> Iterator[tuple[int, VersionInfo | Tombstone | MaskStoreError]]:
        numbers = self._numbers()
        paths = [record_path(self._task, number) for number in numbers]
        for number, data in zip(numbers, self._files.read_many(paths, RECORD_BYTES), strict=True):
            if isinstance(data, MaskStoreError):
                yield number, data
            elif isinstance(data, bytes):
                try:
                    yield number, parse_record(data, self._task, number)
                except RecordError as error:
                    yield number, error


def _checked_name(manifest: Manifest, version: VersionInfo) -> Manifest:
    """Return a manifest, unless it is of another task than its version."""
    if manifest.task != version.task:
        raise RecordError(f"{version}: expected its bundle, found one of {manifest.task!r}")
    return manifest
