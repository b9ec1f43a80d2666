"""Caller: who asks, which tasks it may call, and its quota."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import TypeVar

from server.errors import ForbiddenError, cut
from server.tenants.quota import Limits, Quota

Value = TypeVar("Value")


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: Of its key; in parentheses for one that the keys file does not name, empty for one without.
        tasks: Names of tasks that it may call as an expression; None for every task.
        admin: Whether it may change these tasks, too.
        quota: What is left to it of its limits.
    """

    name: str
    tasks: re.Pattern[str] | None = None
    admin: bool = False
    quota: Quota = field(default_factory=lambda: Quota("", Limits()))

    def may_call(self, task: str) -> bool:
        """Tell whether it may call a task, which there need not be."""
        return self.tasks is None or self.tasks.match(task) is not None

    def require(self, task: str) -> None:
        """Refuse a task that it may not call, whether or not there is one.

        Raises:
            ForbiddenError: It may not.
        """
        if not self.may_call(task):
            raise ForbiddenError(f"key {self.name!r} may not call task {cut(task)}")

    def visible(self, tasks: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return what there is by task, without tasks that it may not call."""
        if self.tasks is None:
            return tasks
        return {name: value for name, value in tasks.items() if self.may_call(name)}


@lru_cache(maxsize=1024)  # many keys have the same tasks
def one_of(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return the expression of names or patterns such as ``guard-*``; None if they are every name."""
    return None if "*" in patterns else re.compile("|".join(map(translate, patterns)))


EVERYONE = Caller("")
"""Who gives no key to a server that asks for none."""
NOBODY = Caller("", re.compile(r"(?!)"))
"""Who was not asked for a key yet: it may call nothing."""
