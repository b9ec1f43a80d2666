import json
import logging
import sys

import pytest

from server.telemetry.logging import JsonFormatter, TextFormatter, configure_logs
from tests.support.serving import settings_of


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("server.requests").makeRecord(
        "server.requests", logging.INFO, "file", 1, message, arguments, None, extra=extra
    )


def test_text_shows_the_fields() -> None:
    line = TextFormatter().format(record("POST %s", "/x", fields={"status": 200, "task": "a"}))
    assert line.endswith("INFO    server.requests: POST /x status=200 task=a")
    assert TextFormatter().format(record("plain")).endswith("server.requests: plain")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("version 1 50 %", '"version 1 50 %"'),
        ("x who=admin", '"x who=admin"'),
        ('"', r'"\""'),
        ("a-b", "a-b"),
    ],
)
def test_a_value_is_read_as_one_field(value: str, told: str) -> None:
    line = TextFormatter().format(record("change", fields={"reason": value, "who": "team"}))
    assert line.endswith(f": change reason={told} who=team")


@pytest.mark.parametrize(
    "quoted", ["x\n2026-01-01 ERROR forged", "x\r2026", "x\x85\u2028\x0b2026", "\x1b[2Jx\ud800"]
)
def test_in_text_nothing_but_a_record_begins_a_line(quoted: str) -> None:
    failed = record("task %s", quoted, fields={"record": quoted})
    try:
        raise ValueError(quoted)
    except ValueError:
        failed.exc_info = sys.exc_info()
    first, *traceback = TextFormatter().format(failed).splitlines()
    assert first.isprintable()
    assert "Traceback" in traceback[0]
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(record("POST %s\nx", "/x", fields={"status": 200, "task": "ä"}))
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "info",
        "logger": "server.requests",
        "message": "POST /x\nx",
        "status": 200,
        "task": "ä",
    }


def test_json_keeps_the_traceback() -> None:
    failed = record("failed")
    try:
        raise ValueError("why")
    except ValueError:
        failed.exc_info = sys.exc_info()
    assert "ValueError: why" in json.loads(JsonFormatter().format(failed))["exception"]


@pytest.mark.parametrize(("form", "formatter"), [("text", TextFormatter), ("json", JsonFormatter)])
def test_the_setting_chooses(
    form: str, formatter: type[logging.Formatter], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.RootLogger(logging.NOTSET)
    monkeypatch.setattr(logging, "root", root)
    configure_logs(settings_of("store", log_format=form, log_level="warning"))
    (handler,) = root.handlers
    assert type(handler.formatter) is formatter
    assert root.level == logging.WARNING
