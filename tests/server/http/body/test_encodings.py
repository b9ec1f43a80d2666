import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import MalformedBodyError, UnsupportedEncodingError
from server.http.body.encodings import accepted_ndjson, decoder_of, is_ndjson, utf8

TEXT = b'{"inputs": "what a great film"}' * 50


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def unpack(coding: str, packed: bytes, step: int = 1 << 20) -> list[bytes]:
    """What comes out, piece by piece, of what is fed in steps."""
    decoder = decoder_of([coding])
    assert decoder is not None
    pieces = []
    for start in range(0, len(packed), step):
        pieces.append(decoder.feed(packed[start : start + step]))
        while decoder.has_more:
            pieces.append(decoder.feed(b""))
    decoder.check_end()
    return pieces


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("X-GZip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("gzip", gzip.compress(TEXT) + bytes(512)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("identity, gzip", gzip.compress(TEXT)),
    ],
)
def test_a_body_is_unpacked_however_it_is_cut(coding: str, packed: bytes, step: int) -> None:
    assert b"".join(unpack(coding, packed, step)) == TEXT


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_come_back(data: bytes, step: int) -> None:
    assert b"".join(unpack("gzip", gzip.compress(data), step)) == data


def test_a_bomb_comes_out_in_small_pieces() -> None:
    pieces = unpack("gzip", gzip.compress(bytes(10 << 20)))
    assert max(map(len, pieces)) == 64 << 10
    assert sum(map(len, pieces)) == 10 << 20


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", TEXT),
        ("gzip", gzip.compress(TEXT)[:-1]),
        ("gzip", gzip.compress(TEXT)[:5]),
        ("gzip", gzip.compress(TEXT) + b"more"),
        ("gzip", zlib.compress(TEXT)),
        ("gzip", gzip.compress(b"") * 1001),
        ("deflate", TEXT),
        ("deflate", zlib.compress(TEXT)[:-1]),
        ("deflate", zlib.compress(TEXT) * 2),
    ],
)
def test_what_is_damaged_is_told(coding: str, packed: bytes) -> None:
    with pytest.raises(MalformedBodyError, match=f"not {coding}, though"):
        unpack(coding, packed)


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, gzip", "compress", "gzip;q=1"])
def test_other_codings_are_refused(header: str) -> None:
    with pytest.raises(UnsupportedEncodingError, match="gzip or deflate"):
        decoder_of([header])


@pytest.mark.parametrize("headers", [["identity"], ["Identity"], [""], [], ["identity", " identity "]])
def test_nothing_is_to_be_unpacked(headers: list[str]) -> None:
    assert decoder_of(headers) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_other_unicode_is_told(encoding: str) -> None:
    with pytest.raises(UnsupportedEncodingError, match="send it as UTF-8"):
        utf8('{"inputs": "x"}'.encode(encoding))


def test_a_byte_order_mark_is_dropped() -> None:
    assert utf8("{}".encode("utf-8-sig")) == utf8(b"{}") == b"{}"


@pytest.mark.parametrize(
    "name",
    [
        "application/x-ndjson",
        "Application/X-NDJSON; charset=utf-8",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonl",
        "application/jsonlines",
        "application/x-jsonlines",
        "application/json-lines",
        "application/x-json-lines",
        "application/json-l",
        "application/x-ldjson",
        "application/stream+json",
        "text/x-ndjson",
        "text/jsonl",
    ],
)
def test_names_of_json_lines(name: str) -> None:
    assert is_ndjson(name)
    assert accepted_ndjson(f"text/html, {name}") == name.partition(";")[0]


@pytest.mark.parametrize(
    "name", ["", "application/json", "application/x-www-form-urlencoded", "text/plain", "*/*"]
)
def test_names_of_anything_else(name: str) -> None:
    assert not is_ndjson(name)
    assert accepted_ndjson(name) is None
