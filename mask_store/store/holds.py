"""Holds: a task is kept at one version, or out of service, whatever the store calls current."""

from typing import Annotated, ClassVar

from pydantic import Field

from mask_store.store.orders import Order, OrderKind
from mask_store.store.records import MAX_NUMBER


class Hold(Order):
    """A hold; it stands until it is released, and goes before traffic.

    Attributes:
        version: The version that is served alone; None where the task is unloaded: it is not served.
    """

    kind: ClassVar[OrderKind] = "hold"

    version: Annotated[int, Field(ge=1, le=MAX_NUMBER, strict=True)] | None

    def __str__(self) -> str:
        """Return it in words, for messages."""
        return "unloaded" if self.version is None else f"pinned to version {self.version}"
