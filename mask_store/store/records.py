"""Version records: what a store writes about versions, and under which paths.

Paths are relative to the store; docs/store.md shows them as a tree.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError

from mask_store.errors import RecordError
from mask_store.format.bundle import MaskBundle
from mask_store.format.manifest import canonical_json, describe_problems
from mask_store.format.mask_info import Digest
from mask_store.messages import one_line

if TYPE_CHECKING:
    from mask_store.store.holds import Hold
    from mask_store.store.traffic import Traffic

POINTER = "current.json"
POINTERS = f"tasks/*/{POINTER}"
MAX_NUMBER = 99_999_999
"""Highest number of a version: the eight digits of its record's name."""
RECORD_BYTES = 4096
"""More than any record or pointer has."""

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)
_Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]


@dataclass(frozen=True)
class VersionInfo:
    """One published version of a task.

    Attributes:
        task: The task's name.
        number: 1 for the first version; never used twice while the task exists.
        digest: "sha256:" and 64 hex digits over the bundle file.
        size: Bytes of the bundle file.
        published: When, in UTC.
    """

    task: str
    number: _Number
    digest: Digest
    size: PositiveInt
    published: Annotated[datetime, AwareDatetime]

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def __str__(self) -> str:
        """Return task and number, for messages."""
        return f"task {self.task!r} version {self.number}"


class Tombstone(BaseModel):
    """Record of a deleted version, so that its number is not given out again."""

    model_config = _STRICT

    task: str
    number: _Number
    digest: Digest | None
    deleted: AwareDatetime


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it should be.

    Attributes:
        task: The task's name.
        number: The version, or None where the task as a whole is concerned.
        kind: Name of the error class.
        message: What is wrong, on one line.
    """

    task: str
    number: int | None
    kind: str
    message: str

    @classmethod
    def of(cls, error: Exception, task: str, number: int | None = None) -> "Problem":
        """Make the problem that an error describes."""
        return cls(task, number, type(error).__name__, one_line(str(error)))


@dataclass(frozen=True)
class Snapshot:
    """The current version of every task at about one instant.

    Attributes:
        current: By task name, in the order of the names.
        problems: One for each task whose pointer can't be read; those are not in `current`.
        traffic: By task name, that of the tasks which have some, active or aborted.
        holds: By task name, those of the tasks which are pinned or unloaded.
        unreadable: One for each order that can't be read, which is neither in `traffic` nor in `holds`.
    """

    current: Mapping[str, VersionInfo]
    problems: tuple[Problem, ...]
    traffic: Mapping[str, "Traffic"] = field(default_factory=dict)
    holds: Mapping[str, "Hold"] = field(default_factory=dict)
    unreadable: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class History:
    """What a store has of one task.

    Attributes:
        current: The current one; None if the pointer to it can't be read.
        versions: Those that are not deleted, oldest first.
        problems: One for each record, or pointer, that can't be read.
    """

    current: VersionInfo | None
    versions: tuple[VersionInfo, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Pruned:
    """What pruning did.

    Attributes:
        versions: Those that it deleted, or would.
        problems: Tasks that it left alone, and why.
    """

    versions: tuple[VersionInfo, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Rollback:
    """Outcome of a rollback.

    Attributes:
        version: The version that is current now.
        bundle: Its contents.
        before: The version that was current before; None if its record could not be read.
        problems: What is wrong with versions that were passed over.
    """

    version: VersionInfo
    bundle: MaskBundle
    before: VersionInfo | None
    problems: tuple[Problem, ...]


_POINTER_PATH = re.compile(rf"tasks/([^/]+)/{re.escape(POINTER)}")
_RECORD_NAME = re.compile(r"(\d{8})\.json", re.ASCII)
_VERSION = TypeAdapter(VersionInfo)


def task_path(task: str) -> str:
    """Return the folder of a task."""
    return f"tasks/{task}"


def current_path(task: str) -> str:
    """Return the path of the pointer: a copy of the record of the current version."""
    return f"tasks/{task}/{POINTER}"


def task_at(path: str) -> str | None:
    """Return the name of the task whose pointer has this path; None if none has."""
    found = _POINTER_PATH.fullmatch(path)
    return None if found is None else found[1]


def record_path(task: str, number: int) -> str:
    """Return the path of the record of a version."""
    return f"tasks/{task}/versions/{number:08d}.json"


def number_in(name: str) -> int | None:
    """Return the number of the version whose record has this file name; None if none can have."""
    found = _RECORD_NAME.fullmatch(name)
    return int(found[1]) or None if found else None


def bundle_path(task: str, digest: str) -> str:
    """Return the path of the bundle file with a digest."""
    return f"tasks/{task}/bundles/{digest.removeprefix('sha256:')}.safetensors"


def record_bytes(record: VersionInfo | Tombstone) -> bytes:
    """Write a record as JSON, on one line."""
    fields = (
        _VERSION.dump_python(record, mode="json")
        if isinstance(record, VersionInfo)
        else record.model_dump(mode="json")
    )
    return canonical_json(fields).encode() + b"\n"


def parse_version(data: bytes, task: str) -> VersionInfo:
    """Read the record of a version that is not deleted.

    Raises:
        RecordError: If it is anything else, or belongs to another task.
    """
    try:
        version = _VERSION.validate_json(data)
    except ValidationError as error:
        raise RecordError(f"task {task!r}: its record can't be read: {describe_problems(error)}") from None
    if version.task != task:
        raise RecordError(f"task {task!r}: expected a record of it, found one of {version.task!r:.80}")
    return version


def parse_record(data: bytes, task: str, number: int) -> VersionInfo | Tombstone:
    """Read the record of a version, deleted or not.

    Raises:
        RecordError: If it is anything else, or belongs to another version.
    """
    record: VersionInfo | Tombstone
    try:
        record = Tombstone.model_validate_json(data)
    except ValidationError:
        record = parse_version(data, task)
    if (record.task, record.number) != (task, number):
        raise RecordError(
            f"task {task!r} version {number}: expected its record, found one of {record.number}"
        )
    return record
