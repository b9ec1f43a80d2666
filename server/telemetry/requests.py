"""Request records: each request that is over is counted, logged and traced, over whichever protocol it came.

The log has a line for each request, and one a second for all that were refused with 429. An overloaded server
refuses thousands of requests a second. A line for each would take as long as half of the refusal, and hide
what else is logged.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from secrets import token_hex

from server.engine.pending import Timings
from server.telemetry.metrics import NO_TASK, UNKNOWN_TASK, Metrics
from server.telemetry.tracing import RequestTracer
from server.tenants.caller import NOBODY, Caller

requests = logging.getLogger("server.requests")

REQUEST_ID = "x-request-id"
"""Header of a request's id, in requests and replies."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SECONDS = 1.0


@dataclass
class RequestFacts:
    """What is known about a request besides what the client sent.

    Attributes:
        request_id: The client's id if it is a safe one, else a new one.
        task: Name of the served task that the request is for; `UNKNOWN_TASK` for one that is not served.
        version: The version that it gets; set with the task.
        rows: Rows that were computed for it.
        caller: Who asks.
        timings: When it reached each stage.
    """

    request_id: str
    task: str = NO_TASK
    version: int | None = None
    rows: int | None = None
    caller: Caller = NOBODY
    timings: Timings = field(default_factory=Timings)

    def known(self) -> dict[str, str | int]:
        """Return task, version, rows and the name of the key, as far as they are known."""
        task = None if self.task in (NO_TASK, UNKNOWN_TASK) else self.task
        facts = {"task": task, "version": self.version, "rows": self.rows, "key": self.caller.name or None}
        return {name: value for name, value in facts.items() if value is not None}


def safe_id(given: str | None) -> str:
    """Return the id that a client gave its request if it is a safe one, else a new one."""
    return given if given is not None and _SAFE_ID.fullmatch(given) else token_hex(16)


class RequestRecorder:
    """Counts, logs and traces requests. Not thread-safe: only the event loop calls it."""

    def __init__(self, metrics: Metrics, tracer: RequestTracer | None = None) -> None:
        """Count into `metrics` and trace by `tracer`, if there is one."""
        self._metrics = metrics
        self._tracer = tracer
        self._log = RequestLog()

    def begin(self) -> None:
        """Count a request that is being answered, until it is recorded."""
        self._metrics.in_flight.inc()

    def record(
        self,
        name: str,
        route: str,
        status: int,
        facts: RequestFacts,
        *,
        headers: Callable[[], Mapping[str, str]],
        attributes: Mapping[str, str | int],
        quiet: bool = False,
    ) -> None:
        """Record a request that is over.

        Args:
            name: What the log and the trace call it, such as ``POST /predict/{task}``.
            route: What the metrics call it.
            status: HTTP status of its reply, or what would be.
            facts: What is known about it.
            headers: Gives the client's headers by lower-case name, for its trace.
            attributes: Attributes of the trace that depend on the protocol.
            quiet: Whether to log it at level debug only, and not to trace it.
        """
        ended, known = time.monotonic(), facts.known()
        self._metrics.in_flight.dec()
        self._metrics.count_request(route, facts.task, status)
        if facts.caller.name:
            computed = facts.rows or 0 if status < HTTPStatus.BAD_REQUEST else 0
            self._metrics.keys.count(facts.caller.name, status, computed)
        milliseconds = round((ended - facts.timings.received) * 1000, 3)
        fields = {
            "route": route,
            "status": status,
            "milliseconds": milliseconds,
            "request_id": facts.request_id,
            **known,
        }
        self._log.write(name, fields, quiet=quiet)
        if self._tracer is not None and not quiet:
            ours = {f"maskserve.{fact}": value for fact, value in known.items()}
            about = {**attributes, "maskserve.request_id": facts.request_id, **ours}
            self._tracer.record(name, facts.timings, ended, headers(), about)


class RequestLog:
    """Writes the lines."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Have nothing to tell yet; `clock` gives seconds."""
        self._clock = clock
        self._refused = 0
        self._told = -_SECONDS

    def write(self, name: str, fields: Mapping[str, str | int | float], *, quiet: bool = False) -> None:
        """Write the line of a request.

        Args:
            name: What it is called.
            fields: What is known of it; its `status` always.
            quiet: Whether to log it at level debug only.
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
            requests.warning("requests refused with 429: %d", self._refused)
            self._refused, self._told = 0, now
