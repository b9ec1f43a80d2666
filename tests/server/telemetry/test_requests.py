import logging

import pytest

from server.telemetry.requests import RequestLog


def test_many_refusals_are_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 100.0
    log = RequestLog(lambda: now)
    for _ in range(1000):
        log.write("POST /predict/{task}", {"status": 429})
    assert caplog.messages == ["requests refused with 429: 1"]  # the first is told at once
    now += 1
    log.write("POST /predict/{task}", {"status": 200})  # whatever comes next tells the rest
    assert caplog.messages[1:] == ["POST /predict/{task}", "requests refused with 429: 999"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]
    now += 1
    log.write("POST /predict/{task}", {"status": 200})
    assert len(caplog.messages) == 4


def test_who_debugs_sees_every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log = RequestLog()
    log.write("POST /predict/{task}", {"status": 429})
    log.write("GET /health", {"status": 200}, quiet=True)
    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING", "DEBUG"]
