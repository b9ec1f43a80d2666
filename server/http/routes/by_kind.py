"""Tasks by kind: what routes of one kind of task need, whose clients name the task in several ways."""

from fastapi import Request

from mask_store import TaskKind
from server.errors import InvalidBodyError, TaskNotFoundError
from server.http.dependencies import check_room, take_task
from server.http.middleware import context_of, service_of
from server.tasks.registry import ServedTask

_SHOWN = 5


def take_task_of_kind(request: Request, name: str | None, kind: TaskKind, does: str) -> ServedTask:
    """Take the version of a task that must be of a kind; see `take_task`.

    Args:
        request: The request.
        name: Name of the task; None for the only one of the kind.
        kind: The kind.
        does: What such a task does, for messages: "rank".

    Raises:
        TaskNotFoundError: There is no such task.
        TaskUnavailableError: No version of it could be loaded.
        InvalidBodyError: It is of another kind, or there are several and none is named.
        QueueFullError: There is no room for it.
    """
    served = take_task(request, name or _only_task(request, kind, does))
    if (found := served.loaded.spec.kind) != kind:
        raise InvalidBodyError(
            f"task {served.name!r} ({found}) can't {does}; tasks of the kind {kind} can: "
            f"{_listed(request, kind)}"
        )
    check_room(request, served)
    return served


def _only_task(request: Request, kind: TaskKind, does: str) -> str:
    names = _tasks(request, kind)
    if len(names) == 1:
        return names[0]
    if not names:
        raise TaskNotFoundError(f"no task of the kind {kind} is served, and only such a task can {does}")
    raise InvalidBodyError(
        f"several tasks can {does}: name one with the key `model`, or call the route under /predict/TASK: "
        f"{_listed(request, kind)}"
    )


def _tasks(request: Request, kind: TaskKind) -> list[str]:
    tasks = context_of(request).caller.visible(service_of(request).registry.tasks)
    return sorted(name for name, served in tasks.items() if served.loaded.spec.kind == kind)


def _listed(request: Request, kind: TaskKind) -> str:
    names = _tasks(request, kind)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more or "there is none here"
