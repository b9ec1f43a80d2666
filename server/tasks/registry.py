"""Which version of which task is served, behind one reference that is swapped whole.

A request looks its task up once, at admission, and keeps the immutable `ServedTask` that it got: later swaps
do not reach it. The only writer is `Lifecycle`, from several threads. A task that can't be served is listed
with the reason, and a broken new version never displaces the one that is served. Nothing here loads anything.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from threading import Lock
from types import MappingProxyType
from typing import Any, Literal

from masking import LoadedTask
from server.errors import TaskNotFoundError, TaskUnavailableError, TaskUnloadedError
from server.telemetry.task_stats import TaskStatistics

TaskState = Literal["loading", "serving", "unloaded", "failed"]
_SHOWN_NAMES = 5


@dataclass(frozen=True)
class ServedTask:
    """One version of a task, loaded and checked.

    Attributes:
        name: Name in the store.
        version: Number of the version in the store.
        loaded: Manifest, codec, head and masks.
        loaded_at: When it was put in service.
        load_seconds: How long reading and checking it took.
        statistics: What it was asked.
    """

    name: str
    version: int
    loaded: LoadedTask
    loaded_at: datetime
    load_seconds: float
    statistics: TaskStatistics = field(default_factory=TaskStatistics, compare=False)

    @property
    def digest(self) -> str:
        """Digest of the bundle."""
        return self.loaded.digest

    @property
    def nbytes(self) -> int:
        """Bytes of its masks and head."""
        return self.loaded.masks_nbytes + self.loaded.head_nbytes


@dataclass(frozen=True)
class TaskProblem:
    """Why the version that the store calls current is not served; `version` is None if unknown."""

    version: int | None
    reason: str

    def __str__(self) -> str:
        """For people."""
        return self.reason if self.version is None else f"version {self.version}: {self.reason}"


@dataclass(frozen=True)
class TaskEntry:
    """All that the server knows about one task of the store.

    Attributes:
        served: The version in service.
        problem: Why a newer version, or any, is not served.
        loading: Whether a version is being loaded.
        unloaded: Whether an operator took it out of service.
        pinned: The version that an operator bound this server to.
    """

    served: ServedTask | None = None
    problem: TaskProblem | None = None
    loading: bool = False
    unloaded: bool = False
    pinned: int | None = None

    @property
    def state(self) -> TaskState:
        """Its state in one word; a served task stays "serving" while its next version is loaded."""
        if self.served is not None:
            return "serving"
        if self.unloaded:
            return "unloaded"
        return "failed" if self.problem is not None and not self.loading else "loading"

    def why_not_served(self, name: str) -> str:
        """What a client is told that wants a task without a version in service."""
        match self.state:
            case "unloaded":
                return f"task {name!r} is unloaded; POST /tasks/{name}/load puts it in service"
            case "failed":
                return f"task {name!r} could not be loaded: {self.problem}"
        return f"task {name!r} is being loaded; try again soon"


@dataclass(frozen=True)
class _View:
    entries: Mapping[str, TaskEntry] = field(default_factory=dict)

    @cached_property
    def tasks(self) -> Mapping[str, ServedTask]:
        return {name: entry.served for name, entry in self.entries.items() if entry.served is not None}

    @cached_property
    def problems(self) -> Mapping[str, TaskProblem]:
        return {name: entry.problem for name, entry in self.entries.items() if entry.problem is not None}


class TaskRegistry:
    """Tasks by name. Readers in any thread see one consistent state and never wait."""

    def __init__(self) -> None:
        """Starts without tasks."""
        self._view = _View()
        self._writing = Lock()

    @property
    def entries(self) -> Mapping[str, TaskEntry]:
        """Every known task by name, served or not; a snapshot that never changes."""
        return MappingProxyType(self._view.entries)

    @property
    def tasks(self) -> Mapping[str, ServedTask]:
        """Every served task by name; a snapshot that never changes."""
        return MappingProxyType(self._view.tasks)

    @property
    def problems(self) -> Mapping[str, TaskProblem]:
        """Every task whose current version can't be served, by name; a snapshot that never changes."""
        return MappingProxyType(self._view.problems)

    def get(self, name: str) -> ServedTask:
        """The version in service now.

        Raises:
            TaskUnloadedError: An operator took the task out of service.
            TaskUnavailableError: The task is in the store, but no version of it could be loaded, or not yet.
            TaskNotFoundError: There is no such task; the message names near or known ones.
        """
        view = self._view
        entry = view.entries.get(name)
        if entry is None:
            raise TaskNotFoundError(_unknown(name, view.tasks))
        if entry.served is not None:
            return entry.served
        refusal = TaskUnloadedError if entry.state == "unloaded" else TaskUnavailableError
        raise refusal(entry.why_not_served(name))

    def expect(self, names: Iterable[str]) -> None:
        """Note tasks that are going to be loaded."""
        with self._writing:
            entries = dict(self._view.entries)
            for name in names:
                entries[name] = replace(entries.get(name, TaskEntry()), loading=True)
            self._view = _View(entries)

    def put(self, task: ServedTask) -> None:
        """Serve this version from now on."""
        self._change(task.name, served=task, problem=None, loading=False, unloaded=False)

    def report(self, name: str, problem: TaskProblem) -> None:
        """Note a problem; the version in service, if any, stays in service."""
        self._change(name, problem=problem, loading=False)

    def clear_problem(self, name: str) -> None:
        """Forget a problem that went away by itself."""
        self._change(name, problem=None, loading=False)

    def pin(self, name: str, version: int | None) -> None:
        """Note that this server is bound to a version of the task, or not any more."""
        self._change(name, pinned=version)

    def unload(self, name: str) -> None:
        """Serve the task no longer, until it is put again."""
        self._change(name, served=None, problem=None, loading=False, unloaded=True, pinned=None)

    def remove(self, name: str) -> None:
        """Forget the task."""
        with self._writing:
            self._view = _View({other: entry for other, entry in self._view.entries.items() if other != name})

    def _change(self, name: str, **changes: Any) -> None:
        with self._writing:
            entry = replace(self._view.entries.get(name, TaskEntry()), **changes)
            self._view = _View({**self._view.entries, name: entry})


def _unknown(name: str, tasks: Mapping[str, ServedTask]) -> str:
    shown = name if len(name) <= 64 else f"{name[:64]}..."  # noqa: PLR2004
    if near := difflib.get_close_matches(name[:64], tasks, n=1):
        return f"unknown task {shown!r}; did you mean {near[0]!r}? GET /tasks lists them all"
    if not tasks:
        return f"unknown task {shown!r}; no task is served yet"
    names = ", ".join(sorted(tasks)[:_SHOWN_NAMES])
    more = f" and {len(tasks) - _SHOWN_NAMES} more (GET /tasks)" if len(tasks) > _SHOWN_NAMES else ""
    return f"unknown task {shown!r}; known tasks: {names}{more}"
