"""Task registry: which version of which task is served.

A request looks its task up once, at admission, and keeps the immutable `ServedTask` that it got: later swaps
do not reach it. A task that can't be served is listed with the reason, and a broken new version never
displaces the one that is served.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from threading import Lock
from types import MappingProxyType
from typing import Any, Literal

from mask_store import VersionInfo
from masking import KnownTask
from server.engine.queue import ignore
from server.errors import (
    TaskNotFoundError,
    TaskUnavailableError,
    TaskUnloadedError,
    VersionNotFoundError,
)
from server.tasks.names import TaskNames
from server.tasks.traffic import TaskTraffic
from server.telemetry.task_stats import TaskStatistics
from server.telemetry.traffic_stats import TrafficStatistics

TaskState = Literal["loading", "serving", "unloaded", "failed"]
_SHOWN_NAMES = 5


@dataclass(frozen=True)
class ServedTask:
    """One version of a task, checked; its masks are in memory or not, which `ReadyMasks` knows.

    Attributes:
        name: Name in the store.
        version: Number of the version in the store.
        loaded: Manifest and codec.
        loaded_at: When it was put in service.
        load_seconds: How long reading and checking it took.
        since: When it was put in service or asked for last, in monotonic seconds.
        statistics: Counts of the requests to it.
        source: Its record in the store; None where it has to be looked up.
        traffic: Counts of all versions that are served side by side with it; None if it is served alone.
        shadow: Version that computes what this one answers, too, for comparison.
    """

    name: str
    version: int
    loaded: KnownTask
    loaded_at: datetime
    load_seconds: float
    since: float = field(default_factory=time.monotonic, compare=False)
    statistics: TaskStatistics = field(default_factory=TaskStatistics, compare=False)
    source: VersionInfo | None = field(default=None, compare=False)
    traffic: TrafficStatistics | None = field(default=None, compare=False)
    shadow: "ServedTask | None" = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        """Digest of the bundle."""
        return self.loaded.digest


@dataclass(frozen=True)
class TaskProblem:
    """Why the version that the store calls current is not served; `version` is None if unknown."""

    version: int | None
    reason: str

    def __str__(self) -> str:
        """Return the problem in words."""
        return self.reason if self.version is None else f"version {self.version}: {self.reason}"


@dataclass(frozen=True)
class TaskEntry:
    """All that the server knows about one task of the store.

    Attributes:
        served: The version in service.
        problem: Why a newer version, or any, is not served.
        unloaded: Whether an operator took it out of service.
        pinned: The version that the task is pinned to.
        traffic: The versions beside `served`, which is the stable one then; None if there are none.
    """

    served: ServedTask | None = None
    problem: TaskProblem | None = None
    unloaded: bool = False
    pinned: int | None = None
    traffic: TaskTraffic | None = None

    @property
    def state(self) -> TaskState:
        """Its state in one word; one that is served or has failed keeps it while a version is loaded."""
        if self.served is not None:
            return "serving"
        if self.unloaded:
            return "unloaded"
        return "loading" if self.problem is None else "failed"

    @property
    def versions(self) -> tuple[ServedTask, ...]:
        """Every version in service, the stable one first."""
        if self.served is None:
            return ()
        return (self.served,) if self.traffic is None else (self.served, *self.traffic.others.values())

    @property
    def bundles(self) -> tuple[ServedTask, ...]:
        """The versions in service with masks of their own: of several with the same bundle the first."""
        found = dict[str, ServedTask]()
        for one in self.versions:
            found.setdefault(one.digest, one)
        return tuple(found.values())

    def why_not_served(self, name: str) -> str:
        """Say why a task without a version in service can't be asked; a client may read it."""
        match self.state:
            case "unloaded":
                return f"task {name!r} is unloaded; POST /tasks/{name}/load puts it in service"
            case "failed":
                return f"task {name!r} could not be loaded: {self.problem}"
        return f"task {name!r} is being loaded; try again soon"


def _digests(entry: TaskEntry) -> set[str]:
    return {one.digest for one in entry.versions}


def _sums_of(entry: TaskEntry) -> dict[str, int]:
    """Return what a task adds to the sums over all."""
    return {
        "served": entry.served is not None,
        "problems": entry.problem is not None,
        "bundles": len(entry.bundles),
        "finetuned_bytes": sum(one.loaded.finetuned_bytes for one in entry.bundles),
    }


class _Snapshot:
    """All tasks at one instant."""

    def __init__(self, entries: Mapping[str, TaskEntry]) -> None:
        self.entries = MappingProxyType(entries)

    @cached_property
    def tasks(self) -> Mapping[str, ServedTask]:
        served = {name: entry.served for name, entry in self.entries.items() if entry.served is not None}
        return MappingProxyType(served)

    @cached_property
    def problems(self) -> Mapping[str, TaskProblem]:
        found = {name: entry.problem for name, entry in self.entries.items() if entry.problem is not None}
        return MappingProxyType(found)


class TaskRegistry:
    """Tasks by name, for any number of threads.

    A change and a look at one task take the same time however many there are. A look at all of them sees one
    consistent state, which is copied at the first such look after a change.
    """

    def __init__(self, required: Iterable[str] = ()) -> None:
        """Start without tasks; those that are `required` keep their masks in memory, as pinned ones do."""
        self._required = frozenset(required)
        self._sums = Counter[str]()
        self._entries: dict[str, TaskEntry] = {}
        self._names = TaskNames()
        self._traffic: dict[str, TaskTraffic] = {}
        self._snapshot: _Snapshot | None = None
        self._lock = Lock()
        self._left: Callable[[str], None] = ignore

    def when_left(self, call: Callable[[str], None]) -> None:
        """Have a function called with the digest of each version that is in service no more."""
        self._left = call

    @property
    def entries(self) -> Mapping[str, TaskEntry]:
        """Every known task by name, served or not; a snapshot that never changes."""
        return self._look().entries

    @property
    def tasks(self) -> Mapping[str, ServedTask]:
        """Every served task by name; a snapshot that never changes."""
        return self._look().tasks

    @property
    def problems(self) -> Mapping[str, TaskProblem]:
        """Every task whose current version can't be served, by name; a snapshot that never changes."""
        return self._look().problems

    @property
    def traffic(self) -> Mapping[str, TaskTraffic]:
        """The traffic of every task that has versions side by side, by name; a copy."""
        with self._lock:
            return dict(self._traffic)

    @property
    def served(self) -> int:
        """How many tasks are served."""
        return self._sums["served"]

    @property
    def troubled(self) -> int:
        """How many tasks have a problem."""
        return self._sums["problems"]

    @property
    def bundles(self) -> int:
        """How many versions with masks of their own are in service, those side by side with others too."""
        return self._sums["bundles"]

    @property
    def finetuned_bytes(self) -> int:
        """What a finetuned copy for each of them would take."""
        return self._sums["finetuned_bytes"]

    @property
    def required(self) -> Iterable[ServedTask]:
        """The required tasks that are served."""
        entries = (self.entry(name) for name in self._required)
        return [entry.served for entry in entries if entry.served is not None]

    def serves(self, name: str, digest: str) -> bool:
        """Tell whether a version with this digest is in service."""
        return any(one.digest == digest for one in self.entry(name).versions)

    def keeps(self, name: str) -> bool:
        """Tell whether the masks of a task stay in memory: it is pinned, or required."""
        return name in self._required or self.entry(name).pinned is not None

    def knows(self, name: str) -> bool:
        """Tell whether there is an entry for a task."""
        return name in self._entries

    def entry(self, name: str) -> TaskEntry:
        """Return what is known about one task; an empty entry for one that nothing is known about."""
        return self._entries.get(name, TaskEntry())

    def known(self, name: str) -> TaskEntry:
        """Return what is known about one task.

        Raises:
            TaskNotFoundError: There is no such task; the message names near or known ones.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise TaskNotFoundError(self._unknown(name))
        return entry

    def get(self, name: str) -> ServedTask:
        """Return the version in service now; of several side by side the stable one.

        Raises:
            TaskUnloadedError: An operator took the task out of service.
            TaskUnavailableError: The task is in the store, but no version of it could be loaded, or not yet.
            TaskNotFoundError: There is no such task; the message names near or known ones.
        """
        return _served(name, self.known(name))

    def choose(self, name: str, *, key: str | None = None, version: int | None = None) -> ServedTask:
        """Return the version that answers a request.

        Called once for each request: by `take_task` (POST /predict/{task} and the Open Inference Protocol),
        and for each row of POST /predict.

        Args:
            name: The task.
            key: What the client sent to meet the same version again; None for nothing.
            version: The version that the client names; None for the one that its weight brings.

        Raises:
            VersionNotFoundError: The task is served, but not in that version.
            TaskUnavailableError, TaskNotFoundError: As `get`.
        """
        entry = self.known(name)
        served = _served(name, entry)
        if version is not None:
            return _named(name, version, entry.versions)
        return served if entry.traffic is None else entry.traffic.choose(served, key)

    def expect(self, names: Iterable[str]) -> None:
        """Note tasks that are going to be loaded."""
        for name in names:
            self._change(name)

    def put(self, task: ServedTask) -> None:
        """Serve this version from now on; alone, unless it is that of the traffic that is set already."""
        traffic = {} if task.traffic is not None else {"traffic": None}
        self._change(task.name, served=task, problem=None, unloaded=False, **traffic)

    def put_traffic(self, stable: ServedTask, traffic: TaskTraffic) -> None:
        """Serve several versions from now on."""
        self._change(stable.name, served=stable, traffic=traffic, problem=None, unloaded=False)

    def end_traffic(self, name: str) -> None:
        """Serve the stable version alone from now on."""
        served = self.entry(name).served
        alone = None if served is None else replace(served, traffic=None, shadow=None)
        self._change(name, served=alone, traffic=None)

    def report(self, name: str, problem: TaskProblem) -> None:
        """Note a problem; the version in service, if any, stays in service."""
        self._change(name, problem=problem)

    def clear_problem(self, name: str) -> None:
        """Forget a problem that went away by itself."""
        self._change(name, problem=None)

    def pin(self, name: str, version: int | None) -> None:
        """Note that the task is pinned to a version, which is served alone, or not any more."""
        if version is not None:
            self.end_traffic(name)
        self._change(name, pinned=version)

    def release(self, name: str) -> None:
        """Note that the task is neither pinned nor unloaded any more."""
        self._change(name, pinned=None, unloaded=False)

    def unload(self, name: str) -> TaskEntry:
        """Stop serving the task, until it is put again."""
        return self._change(name, served=None, problem=None, unloaded=True, pinned=None, traffic=None)

    def remove(self, name: str) -> None:
        """Forget the task."""
        with self._lock:
            if (entry := self._entries.pop(name, None)) is not None:
                self._names.remove(name)
                self._sums.subtract(_sums_of(entry))
            self._traffic.pop(name, None)
            self._snapshot = None
        if entry is not None:
            self._tell_left(entry, TaskEntry())

    def _change(self, name: str, **changes: Any) -> TaskEntry:
        with self._lock:
            if name not in self._entries:
                self._names.add(name)
            before = self.entry(name)
            entry = self._entries[name] = replace(before, **changes)
            self._sums.subtract(_sums_of(before))
            self._sums.update(_sums_of(entry))
            if entry.traffic is not None:
                self._traffic[name] = entry.traffic
            else:
                self._traffic.pop(name, None)
            self._snapshot = None
        self._tell_left(before, entry)
        return entry

    def _tell_left(self, before: TaskEntry, now: TaskEntry) -> None:
        for digest in _digests(before) - _digests(now):
            self._left(digest)

    def _look(self) -> _Snapshot:
        with self._lock:
            if self._snapshot is None:
                self._snapshot = _Snapshot(dict(self._entries))
            return self._snapshot

    def _unknown(self, name: str) -> str:
        """Say that a task is unknown, and which one may be meant."""
        shown = name if len(name) <= 64 else f"{name[:64]}..."  # noqa: PLR2004
        with self._lock:
            count, near, first = len(self._names), self._names.nearest(name), self._names.first(_SHOWN_NAMES)
        if near is not None:
            return f"unknown task {shown!r}; did you mean {near!r}? GET /tasks lists them all"
        if not first:
            return f"unknown task {shown!r}; no task is served yet"
        more = f" and {count - len(first)} more (GET /tasks)" if count > len(first) else ""
        return f"unknown task {shown!r}; known tasks: {', '.join(first)}{more}"


def _served(name: str, entry: TaskEntry) -> ServedTask:
    if entry.served is not None:
        return entry.served
    refusal = TaskUnloadedError if entry.state == "unloaded" else TaskUnavailableError
    raise refusal(entry.why_not_served(name))


def _named(name: str, version: int, versions: Iterable[ServedTask]) -> ServedTask:
    """Return the version of a number among those in service."""
    by_number = {served.version: served for served in versions}
    if version in by_number:
        return by_number[version]
    numbers = ", ".join(map(str, sorted(by_number)))
    raise VersionNotFoundError(
        f"task {name!r} is served in version{'s' if len(by_number) > 1 else ''} {numbers}; no other version "
        "can be asked for"
    )
