"""Traffic: which versions of a task are served side by side, by what weights, and which one as a shadow.

A task without an order of this kind is served in its current version alone. While traffic is active it
decides what is served, not the pointer to the current version: what is published meanwhile gets none.
"""

import math
from collections.abc import Iterable
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mask_store.format.manifest import TaskKind
from mask_store.store.orders import Order, OrderKind
from mask_store.store.records import MAX_NUMBER

MOST_VERSIONS = 8
"""Versions that are served side by side at most."""
WHOLE = 100.0
LONGEST_REASON = 500
WITHOUT_LABELS: tuple[TaskKind, ...] = ("regression", "reranking", "embedding")
"""Kinds whose answers are numbers, of which none are equal in two versions."""

_CLOSE = 1e-6

_Number = Annotated[int, Field(ge=1, le=MAX_NUMBER, strict=True)]
_Key = Annotated[int, Field(ge=1, le=MAX_NUMBER)]  # JSON has texts as keys
_Weight = Annotated[float, Field(ge=0, le=WHOLE, allow_inf_nan=False, strict=True)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]


class AbortRule(BaseModel):
    """When a server ends traffic by itself, by what it has counted itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agreement: _Share | None = Field(
        None,
        description="end it if the shadow agrees with the stable version on less than this share",
    )
    errors: _Share | None = Field(
        None, description="end it if more than this share of the rows of a version but the stable one fails"
    )
    rows: int = Field(1000, ge=1, le=10**9, strict=True, description="of a version, before it is judged")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.agreement is None and self.errors is None:
            raise _wrong("a rule needs `agreement`, `errors` or both")
        return self


class TrafficPlan(BaseModel):
    """What traffic is to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: dict[_Key, _Weight] = Field(
        default={},
        max_length=MOST_VERSIONS,
        description="per cent of the requests by version, 100 together; one of weight 0 is served to those "
        "who name it; without weights the stable version gets all requests",
    )
    shadow: _Number | None = Field(
        None, description="version that computes what the stable one answers, too, to be compared with it"
    )
    stable: _Number | None = Field(
        None,
        description="version that others are compared with, and that an abort returns to; by default that of "
        "the traffic before, if it has a weight, else the current one",
    )
    abort: AbortRule | None = Field(None, description="when servers end it by themselves; null for never")

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = math.fsum(self.weights.values())
        if self.weights and abs(total - WHOLE) > _CLOSE:
            raise _wrong(f"weights are per cent and have to be {WHOLE:g} together, not {total:g}")
        if not self.weights and self.shadow is None:
            raise _wrong("expected `weights`, `shadow` or both")
        if self.abort is not None and self.abort.agreement is not None and self.shadow is None:
            raise _wrong("abort.agreement is that of a shadow, and there is none")
        return self


class Aborted(BaseModel):
    """That traffic was ended, and why.

    Attributes:
        reason: Why, for people.
        at: When, in UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[str, Field(max_length=LONGEST_REASON)]
    at: AwareDatetime


class Traffic(Order):
    """The traffic of a task.

    Attributes:
        stable: Version that others are compared with, and that ending returns to; it has a weight.
        weights: Per cent of the requests for each version, 100 together.
        shadow: Version that computes what the stable one answers, too; None for none.
        abort: When servers end it by themselves; None for never.
        aborted: That it was ended; None while it is active.
    """

    kind: ClassVar[OrderKind] = "traffic"

    stable: _Number
    weights: Annotated[dict[_Key, _Weight], Field(min_length=1, max_length=MOST_VERSIONS)]
    shadow: _Number | None
    abort: AbortRule | None
    aborted: Aborted | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        TrafficPlan(weights=self.weights, shadow=self.shadow, abort=self.abort)
        if self.stable not in self.weights:
            raise _wrong(f"the stable version {self.stable} has no weight")
        if self.shadow == self.stable:
            raise _wrong(
                f"version {self.shadow} is the stable one and can't be compared with itself; name another "
                "stable one"
            )
        return self

    @property
    def active(self) -> bool:
        """Whether it is in force."""
        return self.aborted is None

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that it names, in order."""
        shadow = () if self.shadow is None else (self.shadow,)
        return tuple(sorted({*self.weights, *shadow}))

    @property
    def candidates(self) -> tuple[int, ...]:
        """Every version that it names beside the stable one, in order."""
        return tuple(number for number in self.versions if number != self.stable)

    def __str__(self) -> str:
        """Return it in words, for messages."""
        shares = [f"version {number} {weight:g} %" for number, weight in sorted(self.weights.items())]
        return ", ".join(shares if self.shadow is None else [*shares, f"version {self.shadow} as shadow"])


def listed(numbers: Iterable[int]) -> str:
    """Return numbers of versions for a message."""
    return ", ".join(str(number) for number in sorted(numbers))


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("traffic", message)
