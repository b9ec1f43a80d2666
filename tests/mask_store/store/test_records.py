import dataclasses
import json
from datetime import UTC, datetime

import pytest

from mask_store import RecordError, VersionInfo
from mask_store.messages import LONGEST_MESSAGE
from mask_store.store.records import Tombstone, parse_record, parse_version, record_bytes, record_path

VERSION = VersionInfo("demo", 3, "sha256:" + "ab" * 32, 1000, datetime(2025, 1, 2, tzinfo=UTC))
TOMBSTONE = Tombstone(task="demo", number=3, digest=None, deleted=datetime(2025, 1, 2, tzinfo=UTC))


def test_golden_bytes() -> None:
    expected = (
        '{"digest":"sha256:%s","number":3,"published":"2025-01-02T00:00:00Z","size":1000,"task":"demo"}\n'
    )
    assert record_bytes(VERSION) == (expected % ("ab" * 32)).encode()
    assert record_path("demo", 3) == "tasks/demo/versions/00000003.json"


@pytest.mark.parametrize("record", [VERSION, TOMBSTONE])
def test_round_trip(record: VersionInfo | Tombstone) -> None:
    assert parse_record(record_bytes(record), "demo", 3) == record


def test_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VERSION.number = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        record_bytes(VERSION)[:-10],
        record_bytes(VERSION).replace(b'"size":1000', b'"size":"1000"'),
        record_bytes(VERSION).replace(b'"size":1000', b'"size":1000,"x":1'),
        record_bytes(VERSION).replace(b"sha256:", b"sha512:"),
        record_bytes(VERSION).replace(b"Z", b""),
        record_bytes(VERSION).replace(b"demo", b"other"),
        record_bytes(TOMBSTONE),
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(RecordError, match="task 'demo'") as caught:
        parse_version(data, "demo")
    assert "\n" not in str(caught.value)


def test_refuses_the_record_of_another_version() -> None:
    with pytest.raises(RecordError, match="version 4: expected its record, found one of 3"):
        parse_record(record_bytes(VERSION), "demo", 4)


def test_a_refusal_is_one_short_line_whatever_the_record_holds() -> None:
    fields = {"x\n2026-01-01 forged": 1, "\x1b[2J": 1} | {f"x{number}": 1 for number in range(1000)}
    with pytest.raises(RecordError, match=r"x\\n2026-01-01 forged") as caught:
        parse_version(json.dumps(fields).encode(), "demo")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= LONGEST_MESSAGE
