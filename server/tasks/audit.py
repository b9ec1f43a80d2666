"""Audit log: a line for every change of a task: who, what, from which version to which, and its digest.

The lines have a logger of their own, ``server.audit``. Changes that other servers or the command line made in
the store are noted as those of the store, when this server follows them; traffic that this server ended by
itself as a change of the threshold.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from mask_store import Traffic, VersionInfo
from mask_store.messages import escape_controls
from server.errors import ServerError
from server.tasks.registry import ServedTask, TaskEntry, TaskRegistry
from server.telemetry.requests import RequestFacts

audit = logging.getLogger("server.audit")

STORE = "(store)"
THRESHOLD = "(threshold)"
_Result = TypeVar("_Result")


class _Served(NamedTuple):
    """What is served of a task; where there is traffic, version and digest are those of the stable one."""

    version: int | None = None
    digest: str | None = None
    traffic: Traffic | None = None


def audited(
    registry: TaskRegistry,
    facts: RequestFacts,
    change: str,
    task: str,
    work: Callable[[], _Result],
) -> _Result:
    """Change a task as a request wants it, and note that, or that it was refused.

    Args:
        registry: What is served.
        facts: Who asks.
        change: What is done.
        task: To which task.
        work: Does it.

    Raises:
        ServerError: As the change itself.
    """
    who, before = {"who": facts.caller.name, "request_id": facts.request_id}, _served(registry, task)
    try:
        result = work()
    except ServerError as error:
        _note(change, task, before, before, {**who, "refused": error.error_type})
        raise
    _note(change, task, before, _version_of(result)._replace(traffic=_served(registry, task).traffic), who)
    return result


@contextmanager
def followed(registry: TaskRegistry, task: str) -> Iterator[None]:
    """Note what follows from a look at the store, if something else is served at the end of the context."""
    before = _served(registry, task)
    yield
    after = _served(registry, task)
    if after != before:
        _note("follow", task, before, after, {"who": STORE})


def note_abort(registry: TaskRegistry, task: str, reason: str) -> None:
    """Note that this server ends the traffic of a task by itself; the stable version is served alone then."""
    before = _served(registry, task)
    after = before._replace(traffic=None)
    _note("abort_traffic", task, before, after, {"who": THRESHOLD, "reason": reason})


def _note(change: str, task: str, before: _Served, after: _Served, about: dict[str, str]) -> None:
    fields = {
        "change": change,
        "task": task[:64],
        "from_version": before.version,
        "to_version": after.version,
        "from_traffic": None if before.traffic is None else str(before.traffic),
        "to_traffic": None if after.traffic is None else str(after.traffic),
        "digest": after.digest or before.digest,
        **about,
    }
    level = logging.WARNING if "refused" in about else logging.INFO
    told = {name: value for name, value in fields.items() if value is not None}
    audit.log(level, "%s of task %s", change, escape_controls(task[:64]), extra={"fields": told})


def _served(registry: TaskRegistry, task: str) -> _Served:
    entry = registry.entry(task)
    traffic = None if entry.traffic is None else entry.traffic.settings
    return _version_of(entry)._replace(traffic=traffic)


def _version_of(result: object) -> _Served:
    """Return the version that a change made or put in service: that of an upload, or of a task."""
    match result:
        case (
            ServedTask(version=number, digest=digest)
            | TaskEntry(served=ServedTask(version=number, digest=digest))
        ):
            return _Served(number, digest)
    match getattr(result, "version", None):
        case VersionInfo(number=number, digest=digest):
            return _Served(number, digest)
    return _Served()
