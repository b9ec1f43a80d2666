"""Audit log: a line for every change of a task: who, what, from which version to which, and its digest.

The lines have a logger of their own, ``server.audit``. Changes that other servers or the command line made in
the store are noted as those of the store, when this server follows them.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mask_store import VersionInfo
from mask_store.messages import escape_controls
from server.errors import ServerError
from server.tasks.registry import ServedTask, TaskEntry, TaskRegistry
from server.telemetry.requests import RequestFacts

audit = logging.getLogger("server.audit")

STORE = "(store)"
_Result = TypeVar("_Result")
_Version = tuple[int | None, str | None]
_NONE: _Version = (None, None)


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
    _note(change, task, before, _version_of(result), who)
    return result


@contextmanager
def followed(registry: TaskRegistry, task: str) -> Iterator[None]:
    """Note what follows from a look at the store, if another version is served at the end of the context."""
    before = _served(registry, task)
    yield
    after = _served(registry, task)
    if after != before:
        _note("follow", task, before, after, {"who": STORE})


def _note(change: str, task: str, before: _Version, after: _Version, about: dict[str, str]) -> None:
    fields = {
        "change": change,
        "task": task[:64],
        "from_version": before[0],
        "to_version": after[0],
        "digest": after[1] or before[1],
        **about,
    }
    level = logging.WARNING if "refused" in about else logging.INFO
    told = {name: value for name, value in fields.items() if value is not None}
    audit.log(level, "%s of task %s", change, escape_controls(task[:64]), extra={"fields": told})


def _served(registry: TaskRegistry, task: str) -> _Version:
    served = registry.entry(task).served
    return _NONE if served is None else (served.version, served.digest)


def _version_of(result: object) -> _Version:
    """Return the version that a change made or put in service: that of an upload, or of a task."""
    match result:
        case (
            ServedTask(version=number, digest=digest)
            | TaskEntry(served=ServedTask(version=number, digest=digest))
        ):
            return number, digest
    match getattr(result, "version", None):
        case VersionInfo(number=number, digest=digest):
            return number, digest
    return _NONE
