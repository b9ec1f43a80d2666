"""Load of many concurrent clients, each with one request at a time: over HTTP, or any coroutine.

The HTTP client does only what a measurement needs (keep-alive, a fixed set of requests, replies with a
length), so that it takes little of the cores that the server is measured on.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

Call = Callable[[int], Awaitable[None]]
"""Sends request number n and waits for its answer."""


@dataclass(frozen=True)
class Load:
    """Measured load.

    Attributes:
        seconds: How long it took.
        latencies: Seconds of each request.
    """

    seconds: float
    latencies: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    @property
    def p50(self) -> float:
        """Median seconds of a request."""
        return median(self.latencies)

    @property
    def p90(self) -> float:
        """Seconds in which nine of ten requests are answered."""
        ordered = sorted(self.latencies)
        return ordered[math.ceil(0.9 * len(ordered)) - 1]


async def load(clients: Sequence[Call], seconds: float) -> Load:
    """Let each client send one request after another; all start together and finish what they began."""
    latencies: list[float] = []
    start = time.perf_counter()

    async def run(call: Call, number: int) -> None:
        while (began := time.perf_counter()) < start + seconds:
            await call(number)
            latencies.append(time.perf_counter() - began)
            number += len(clients)

    await asyncio.gather(*(run(call, number) for number, call in enumerate(clients)))
    return Load(time.perf_counter() - start, tuple(latencies))


class HttpClient:
    """One connection that sends the requests of a list in turn."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: list[bytes]
    ) -> None:
        """Use `connect`."""
        self._reader, self._writer, self._requests = reader, writer, requests

    @classmethod
    async def connect(cls, url: str, bodies: Sequence[tuple[str, object]]) -> "HttpClient":
        """Connect to a server.

        Args:
            url: The server's, such as ``http://127.0.0.1:8000``.
            bodies: Paths, and what is posted to each as JSON.
        """
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        return cls(reader, writer, [_post(host, path, body) for path, body in bodies])

    async def __call__(self, number: int) -> None:
        """Post body `number`; see `post`."""
        await self.post(number)

    async def post(self, number: int) -> bytes:
        """Post body `number`, counted modulo the number of bodies; return the head of the answer.

        Raises:
            ConnectionError: The answer is not 200.
        """
        self._writer.write(self._requests[number % len(self._requests)])
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        body = await self._reader.readexactly(int(length))
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"{head.splitlines()[0]!r}: {body[:200]!r}")
        return head

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()


def _post(host: str, path: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return head.encode() + f"content-length: {len(content)}\r\n\r\n".encode() + content
