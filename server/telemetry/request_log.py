"""Request log: a line for each request, and one a second for all that found no room.

An overloaded server refuses thousands of requests a second. A line for each would take as long as half of
the refusal, and hide what else is logged.
"""

import logging
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

requests = logging.getLogger("server.requests")

_SECONDS = 1.0


class RequestLog:
    """Writes the lines. Not thread-safe: the event loop writes them all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Have nothing to tell yet; `clock` gives seconds."""
        self._clock = clock
        self._refused = 0
        self._told = -_SECONDS

    def write(self, name: str, fields: Mapping[str, str | int | float], *, quiet: bool = False) -> None:
        """Write the line of a request.

        Args:
            name: Method and route.
            fields: What is known of it; its `status` always.
            quiet: Whether it is of interest to those who debug alone.
        """
        refused = fields["status"] == HTTPStatus.TOO_MANY_REQUESTS
        self._refused += refused
        level = logging.DEBUG if quiet or refused else logging.INFO
        if requests.isEnabledFor(level):
            requests.log(level, "%s", name, extra={"fields": fields})
        if self._refused:
            self._tell_refused()

    def _tell_refused(self) -> None:
        now = self._clock()
        if now - self._told >= _SECONDS:
            requests.warning("requests refused for lack of room: %d", self._refused)
            self._refused, self._told = 0, now
