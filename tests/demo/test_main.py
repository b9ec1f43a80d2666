import sys
from pathlib import Path

import pytest

from demo.__main__ import main
from lab.extras import MissingExtraError
from lab.server_process import ServerStartError


@pytest.mark.parametrize(("error", "code"), [(MissingExtraError("none"), 2), (ServerStartError("none"), 1)])
def test_an_error_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("demo.__main__._run", fail)
    assert main([]) == code
    assert capsys.readouterr().err == "none\n"


def test_a_command_that_fails_ends_the_demonstration_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("demo.__main__.place_minilm", lambda folder: folder)
    monkeypatch.setattr("demo.__main__._command", lambda *_: [sys.executable, "-c", "raise SystemExit(7)"])
    assert main(["--output", str(tmp_path / "out"), "--train-rows", "40"]) == 7
    assert capsys.readouterr().err == ""
