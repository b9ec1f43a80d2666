"""Orders: what an operator wants served of a task in the place of its current version.

Each is one small file, `STORE/orders/<task>.<kind>.json`, which every server that follows the store keeps to:
`Traffic` serves versions side by side, a `Hold` goes before it and keeps one version in service, or none.
"""

import re
from typing import ClassVar, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mask_store.errors import RecordError
from mask_store.format.manifest import canonical_json, describe_problems

OrderKind = Literal["traffic", "hold"]

ORDERS = "orders"
"""Folder of the store with the files."""
ORDER_FILES = f"{ORDERS}/*"
ORDER_BYTES = 4096
"""More than any of them has."""

_PATH = re.compile(rf"{ORDERS}/(.+)\.(traffic|hold)\.json", re.ASCII)


class Order(BaseModel):
    """An order.

    Attributes:
        task: The task's name.
        since: When it was given, in UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[OrderKind]

    task: str
    since: AwareDatetime


_Order = TypeVar("_Order", bound=Order)


def order_path(task: str, kind: OrderKind) -> str:
    """Return the path of an order."""
    return f"{ORDERS}/{task}.{kind}.json"


def order_at(path: str) -> tuple[str, str] | None:
    """Return the task and the kind of the order at a path; None if there can be none."""
    found = _PATH.fullmatch(path)
    return None if found is None else (found[1], found[2])


def order_bytes(order: Order) -> bytes:
    """Write an order as JSON, on one line."""
    return canonical_json(order.model_dump(mode="json")).encode() + b"\n"


def parse_order(form: type[_Order], data: bytes, task: str) -> _Order:
    """Read the order of a task.

    Raises:
        RecordError: It is anything else, or belongs to another task.
    """
    try:
        order = form.model_validate_json(data)
    except ValidationError as error:
        why = describe_problems(error)
        raise RecordError(f"task {task!r}: its {form.kind} can't be read, set it anew: {why}") from None
    if order.task != task:
        raise RecordError(f"task {task!r}: expected {form.kind} of it, found that of {order.task!r:.80}")
    return order
