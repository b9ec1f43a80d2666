"""Which version of which task is served, behind one reference that is swapped whole.

A request looks its task up once, at admission, and keeps the immutable `ServedTask` that it got: later swaps
do not reach it. The only writer is the store watcher. A task that can't be served is listed with the reason,
and a broken new version never displaces the one that is served.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from masking import LoadedTask
from server.errors import TaskUnavailableError, UnknownTaskError
from server.statistics import TaskStatistics

_SHOWN_NAMES = 5


@dataclass(frozen=True)
class ServedTask:
    """One version of a task, loaded and checked.

    Attributes:
        name: Name in the store.
        version: Number of the version in the store.
        loaded: Manifest, codec, head and packed masks.
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


@dataclass(frozen=True)
class TaskProblem:
    """Why the version that the store calls current is not served; `version` is None if unknown."""

    version: int | None
    reason: str


@dataclass(frozen=True)
class _View:
    tasks: Mapping[str, ServedTask] = field(default_factory=dict)
    problems: Mapping[str, TaskProblem] = field(default_factory=dict)


class TaskRegistry:
    """Served tasks by name. Readers in any thread see one consistent state; there is one writer."""

    def __init__(self) -> None:
        """Starts without tasks."""
        self._view = _View()

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
            TaskUnavailableError: The task is in the store, but no version of it could be loaded.
            UnknownTaskError: There is no such task; the message names near or known ones.
        """
        view = self._view
        if name in view.tasks:
            return view.tasks[name]
        if name in view.problems:
            raise TaskUnavailableError(f"task {name!r} could not be loaded: {view.problems[name].reason}")
        raise UnknownTaskError(_unknown(name, view.tasks))

    def put(self, task: ServedTask) -> None:
        """Serve this version from now on."""
        view = self._view
        problems = {name: problem for name, problem in view.problems.items() if name != task.name}
        self._view = _View({**view.tasks, task.name: task}, problems)

    def report(self, name: str, problem: TaskProblem) -> None:
        """Note a problem; the version in service, if any, stays in service."""
        self._view = replace(self._view, problems={**self._view.problems, name: problem})

    def clear_problem(self, name: str) -> None:
        """Forget a problem that went away by itself."""
        problems = {other: problem for other, problem in self._view.problems.items() if other != name}
        self._view = replace(self._view, problems=problems)

    def remove(self, name: str) -> None:
        """Serve the task no longer."""
        view = self._view
        self._view = _View(
            {other: task for other, task in view.tasks.items() if other != name},
            {other: problem for other, problem in view.problems.items() if other != name},
        )


def _unknown(name: str, tasks: Mapping[str, ServedTask]) -> str:
    shown = name if len(name) <= 64 else f"{name[:64]}..."  # noqa: PLR2004
    if near := difflib.get_close_matches(name, tasks, n=1):
        return f"unknown task {shown!r}; did you mean {near[0]!r}? GET /tasks lists them all"
    if not tasks:
        return f"unknown task {shown!r}; no task is served yet"
    names = ", ".join(sorted(tasks)[:_SHOWN_NAMES])
    more = f" and {len(tasks) - _SHOWN_NAMES} more (GET /tasks)" if len(tasks) > _SHOWN_NAMES else ""
    return f"unknown task {shown!r}; known tasks: {names}{more}"
