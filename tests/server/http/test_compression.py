import gzip
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from server.http.compression import CompressionMiddleware, accepts_gzip

LONG = [{"task": f"task-{number}", "state": "serving"} for number in range(3000)]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()

    @app.get("/json/{count}")
    async def of_json(count: int) -> Response:
        return JSONResponse(LONG[:count])

    @app.get("/bytes")
    async def of_bytes() -> Response:
        return Response(bytes(20_000), media_type="application/octet-stream")

    @app.get("/packed")
    async def packed() -> Response:
        content = gzip.compress(json.dumps(LONG).encode())
        return PlainTextResponse(content, headers={"content-encoding": "gzip"})

    @app.get("/lines")
    async def lines() -> Response:
        async def pieces() -> AsyncIterator[str]:
            for _ in range(100):
                yield json.dumps(LONG[:10]) + "\n"

        return StreamingResponse(pieces(), media_type="application/x-ndjson")

    app.add_middleware(CompressionMiddleware)
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("count", [300, 3000])  # compressed on the event loop, and in a thread
def test_a_long_reply_is_compressed_for_who_takes_it(client: TestClient, count: int) -> None:
    plain = client.get(f"/json/{count}", headers={"accept-encoding": "identity"})
    reply = client.get(f"/json/{count}", headers={"accept-encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.json() == plain.json() == LONG[:count]
    assert int(reply.headers["content-length"]) < int(plain.headers["content-length"]) / 5
    assert plain.headers["vary"] == reply.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/json/3", "/bytes", "/lines", "/missing"])
def test_short_replies_streams_and_what_is_no_text_are_left_alone(client: TestClient, path: str) -> None:
    reply = client.get(path, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in reply.headers
    assert reply.content


def test_what_is_compressed_already_is_not_compressed_again(client: TestClient) -> None:
    assert client.get("/packed", headers={"accept-encoding": "gzip"}).json() == LONG


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ([], False),
        ([""], False),
        (["identity"], False),
        (["gzip"], True),
        (["deflate, GZip;q=0.5"], True),
        (["br", "x-gzip"], True),
        (["*"], True),
        (["gzip;q=0"], False),
        (["gzip; q=0.000, *"], False),
        (["*, gzip;q=0"], False),
        (["*;q=0, gzip"], True),
        (["gzip;q=0.001"], True),
    ],
)
def test_what_an_accept_encoding_header_says(given: list[str], accepted: bool) -> None:
    assert accepts_gzip(given) is accepted
