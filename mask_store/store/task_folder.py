"""Task folder: the versions, the pointer and the bundles of one task of a store.

What is written here is safe against crashes by its order, and against other publishers by exclusive creation
of records; holding the store's lock is up to the caller.
"""

from collections.abc import Iterator

from mask_store.errors import (
    CurrentVersionError,
    DigestMismatchError,
    InvalidTaskNameError,
    MaskStoreError,
    MissingBundleError,
    NoEarlierVersionError,
    RecordError,
    UnknownTaskError,
    UnknownVersionError,
)
from mask_store.files import Files
from mask_store.format.bundle import MaskBundle, digest_of
from mask_store.format.limits import Limits
from mask_store.format.manifest import utc_now
from mask_store.format.mask_info import TASK_NAME, TASK_NAME_RULE
from mask_store.store.records import (
    Problem,
    Tombstone,
    VersionInfo,
    bundle_path,
    current_path,
    parse_record,
    parse_version,
    record_bytes,
    record_path,
    task_path,
)

_INTERRUPTED = "no current version: a publish or a deletion was interrupted; publish again or delete it again"


class TaskFolder:
    """The files of one task, which need not exist yet."""

    def __init__(self, files: Files, task: str, limits: Limits) -> None:
        """Use the files of `task`.

        Raises:
            InvalidTaskNameError: If no task can have this name.
        """
        if not TASK_NAME.fullmatch(task):
            raise InvalidTaskNameError(f"no task can be called {task!r:.80}: expected {TASK_NAME_RULE}")
        self._files, self._task, self._limits = files, task, limits

    def exists(self) -> bool:
        """Tell whether there is anything of the task, be it the leftovers of an interruption."""
        return bool(self._files.list(task_path(self._task)))

    def current(self) -> VersionInfo:
        """Return the current version."""
        try:
            return parse_version(self._files.read(current_path(self._task)), self._task)
        except FileNotFoundError:
            raise self.unknown() from None

    def version(self, number: int) -> VersionInfo:
        """Return the version with a number."""
        try:
            record = parse_record(self._files.read(record_path(self._task, number)), self._task, number)
        except FileNotFoundError:
            record = None
        if isinstance(record, VersionInfo):
            return record
        raise self._unknown_version(number)

    def versions(self) -> tuple[VersionInfo, ...]:
        """Return all versions that are not deleted, oldest first."""
        versions = []
        for _, record in self._records():
            if isinstance(record, MaskStoreError):
                raise record
            if isinstance(record, VersionInfo):
                versions.append(record)
        return tuple(versions)

    def before(self, current: VersionInfo) -> VersionInfo:
        """Find the newest version before `current` with other contents."""
        for version in reversed(self.versions()):
            if version.number < current.number and version.digest != current.digest:
                return version
        raise NoEarlierVersionError(f"{current}: no earlier version to roll back to")

    def load(self, version: VersionInfo, *, checksum: bool = False) -> MaskBundle:
        """Read the bundle of a version and check it against its record and in itself.

        Args:
            version: A version of this task.
            checksum: Check the bundle's own checksum too, which the record's digest makes needless.
        """
        data = self._read_bundle(version)
        bundle = MaskBundle.from_bytes(data, limits=self._limits, digest=None if checksum else version.digest)
        if bundle.manifest.task != version.task:
            raise RecordError(f"{version}: expected its bundle, found one of {bundle.manifest.task!r}")
        return bundle

    def publish(self, bundle: MaskBundle) -> VersionInfo:
        """Write a bundle, then its record, then the pointer; each is durable before the next is begun."""
        data = bundle.to_bytes()
        current = self._current_or_none()
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
        """Remove everything: the pointer first, then records, and bundles once no record names them."""
        if not self.exists():
            raise self.unknown()
        self._files.remove(current_path(self._task))
        self._files.remove(f"{task_path(self._task)}/versions")
        self._files.remove(task_path(self._task))

    def delete_version(self, number: int) -> None:
        """Leave a tombstone for a version, then remove its bundle unless another version needs it."""
        current = self.current()
        if number == current.number:
            raise CurrentVersionError(f"{current} is current: roll back first, or delete the whole task")
        records = dict(self._records())
        record = records.pop(number, None)
        if record is None:
            raise self._unknown_version(number)
        digest = None if isinstance(record, MaskStoreError) else record.digest
        if not isinstance(record, Tombstone):
            tombstone = Tombstone(task=self._task, number=number, digest=digest, deleted=utc_now())
            self._files.replace(record_path(self._task, number), record_bytes(tombstone))
        kept = {current.digest} | {left.digest for left in records.values() if isinstance(left, VersionInfo)}
        if digest and digest not in kept:
            self._files.remove(bundle_path(self._task, digest))

    def verify(self) -> Iterator[Problem]:
        """Read everything and say what is wrong."""
        current, records = None, dict(self._records())
        try:
            current = self.current()
        except UnknownTaskError:
            if any(isinstance(record, VersionInfo) for record in records.values()):
                yield Problem(self._task, None, UnknownTaskError.__name__, _INTERRUPTED)
        except MaskStoreError as error:
            yield Problem.of(error, self._task)
        if current and records.get(current.number) != current:
            message = f"{current} is current but its record is missing or says something else"
            yield Problem(self._task, None, RecordError.__name__, message)
        for number, record in records.items():
            try:
                if isinstance(record, MaskStoreError):
                    raise record
                if isinstance(record, VersionInfo):
                    self.load(record, checksum=True)
            except Exception as error:  # whatever one version does, the others are looked at
                yield Problem.of(error, self._task, number)

    def unknown(self) -> UnknownTaskError:
        """Make the error that says there is no such task."""
        return UnknownTaskError(f"no task {self._task!r} in {self._files}")

    def _unknown_version(self, number: int) -> UnknownVersionError:
        there = ", ".join(str(n) for n, record in self._records() if isinstance(record, VersionInfo))
        return UnknownVersionError(f"task {self._task!r} has no version {number}, it has {there or 'none'}")

    def _read_bundle(self, version: VersionInfo) -> bytes:
        self._limits.check("file", f"bundle of {version}", version.size)
        try:
            data = self._files.read(bundle_path(self._task, version.digest))
        except FileNotFoundError:
            raise MissingBundleError(f"{version}: its bundle file is gone") from None
        found = digest_of(data)
        if found != version.digest or len(data) != version.size:
            raise DigestMismatchError(
                f"{version}: expected {version.size} bytes of digest {version.digest}, "
                f"found {len(data)} bytes of digest {found}"
            )
        return data

    def _is_intact(self, version: VersionInfo) -> bool:
        try:
            self._read_bundle(version)
        except (MissingBundleError, DigestMismatchError):
            return False
        return True

    def _current_or_none(self) -> VersionInfo | None:
        try:
            return self.current()
        except (UnknownTaskError, RecordError):
            return None

    def _create_record(self, digest: str, size: int) -> VersionInfo:
        """Take the next free number; creation is exclusive, so two publishers never get the same one."""
        number = max(self._numbers(), default=0) + 1
        while True:
            version = VersionInfo(self._task, number, digest, size, utc_now())
            try:
                self._files.create(record_path(self._task, number), record_bytes(version))
            except FileExistsError:
                number += 1
            else:
                return version

    def _numbers(self) -> list[int]:
        names = self._files.list(f"{task_path(self._task)}/versions")
        stems = [name.removesuffix(".json") for name in names]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _records(self) -> Iterator[tuple[int, VersionInfo | Tombstone | MaskStoreError]]:
        numbers = self._numbers()
        found = self._files.read_many([record_path(self._task, number) for number in numbers])
        for number, data in zip(numbers, found, strict=True):
            if isinstance(data, MaskStoreError):
                yield number, data
            elif isinstance(data, bytes):
                try:
                    yield number, parse_record(data, self._task, number)
                except RecordError as error:
                    yield number, error
