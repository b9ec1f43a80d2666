"""Probe: a process that sends one request again and again, and tells what of the time it waited for a core.

A server is measured on the cores that its load comes from. So what the kernel let the probe and the server's
event loop wait until they ran counts apart (/proc/PID/schedstat): it is the machine's time and not the
server's.
"""

import http.client
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lab.server_process import ServerProcess

ROOT = Path(__file__).parents[3]
PAUSE = 0.005  # seconds between an answer and the next request


@dataclass(frozen=True)
class Probed:
    """What a probe saw.

    Attributes:
        begun: When each request was sent, by the monotonic clock, [requests].
        seconds: From request to answer, [requests].
        waited: Of these, how long the probe or the server's event loop waited for a core, [requests].
    """

    begun: NDArray[np.float64]
    seconds: NDArray[np.float64]
    waited: NDArray[np.float64]

    @property
    def own(self) -> NDArray[np.float64]:
        """Seconds without the waits for a core, [requests]."""
        return np.maximum(0.0, self.seconds - self.waited)

    @property
    def p99(self) -> float:
        """Own seconds that 99 % of the requests take at most."""
        return float(np.quantile(self.own, 0.99))

    def during(self, spans: Sequence[tuple[float, float]], *, whether: bool = True) -> "Probed":
        """Return the requests that were under way in one of these spans of time, or those that were not."""
        ended = self.begun + self.seconds
        inside = np.zeros(len(self.begun), np.bool_)
        for begin, end in spans:
            inside |= (self.begun < end) & (ended > begin)
        chosen = inside if whether else ~inside
        return Probed(self.begun[chosen], self.seconds[chosen], self.waited[chosen])

    def __str__(self) -> str:
        """Write 99 % and the most, and in brackets the most with the waits for a core, in ms."""
        most, whole = self.own.max() * 1e3, self.seconds.max() * 1e3
        return f"{len(self.own)} requests, p99 {self.p99 * 1e3:.1f}, most {most:.1f} ({whole:.1f}) ms"


@contextmanager
def probing(
    server: ServerProcess, method: str, path: str, body: bytes = b""
) -> Iterator[Callable[[], Probed]]:
    """Probe a server; the call that is given ends it and returns what it saw."""
    command = [
        sys.executable,
        "-m",
        "tests.server.whole.probe",
        str(server.process.pid),
        server.url,
        method,
        path,
    ]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def end() -> Probed:
            out, _ = process.communicate(timeout=60)
            return Probed(*np.array(json.loads(out)))

        assert process.stdin is not None
        process.stdin.write(len(body).to_bytes(4, "big") + body)
        process.stdin.flush()
        try:
            yield end
        finally:
            process.kill()


def _waited(*processes: str) -> float:
    """Seconds that the first threads of these processes have been ready to run without a core."""
    return sum(int(Path(f"/proc/{one}/schedstat").read_text().split()[1]) for one in processes) / 1e9


def _probe(process: str, url: str, method: str, path: str) -> tuple[list[float], list[float], list[float]]:
    given = sys.stdin.buffer
    body = given.read(int.from_bytes(given.read(4), "big"))
    where, begun, seconds, waited = urlsplit(url), [], [], []
    with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)) as connection:
        while not select.select([given], [], [], PAUSE)[0]:  # the end of what is given ends it
            before, started = _waited("self", process), time.monotonic()
            connection.request(method, path, body, {"content-type": "application/json"})
            reply: Any = connection.getresponse()
            answer = reply.read()
            begun.append(started)
            seconds.append(time.monotonic() - started)
            waited.append(_waited("self", process) - before)
            if reply.status != 200:
                raise SystemExit(f"{path} answered {reply.status}: {answer[:200]!r}")
    return begun, seconds, waited


if __name__ == "__main__":
    print(json.dumps(_probe(*sys.argv[1:])))
