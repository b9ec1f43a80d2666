from types import SimpleNamespace

import pytest

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from lab.extras import MissingExtraError


@pytest.mark.parametrize(("error", "code"), [(MissingExtraError("none"), 2), (BenchmarkError("none"), 1)])
def test_an_error_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def fail(_: object) -> int:
        raise error

    case = SimpleNamespace(add_arguments=lambda parser: None, main=fail)
    monkeypatch.setattr("benchmarks.__main__.import_module", lambda name: case)
    assert main(["memory"]) == code
    assert capsys.readouterr().err == "none\n"
