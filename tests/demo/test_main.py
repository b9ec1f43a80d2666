import sys
from pathlib import Path

import pytest

from demo.__main__ import _print_memory, main
from lab.extras import MissingExtraError
from lab.server_process import ServerStartError
from masking import Base
from masking.kernels.cpu.processor import lacks
from tests.support.kernels.cases import NARROW
from tests.support.serving import fill, serving


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


@pytest.mark.parametrize("precision", ["fp32", *NARROW])
def test_the_memory_is_that_of_the_precision(
    base: Base, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, base, ["sentiment"])
    with serving(base, tmp_path, precision=precision) as client:
        report = client.get("/memory").json()
    _print_memory(report)
    told = capsys.readouterr().out
    forms = [report["base"]["bytes"], report["base"]["lines_bytes"], report["total"]["resident_bytes"]]
    assert [f"{size:,}" in told for size in forms if size] == [True] * (2 if lacks(precision) else 3)
    assert (f"its layers in {precision}" in told) == (not lacks(precision))
    assert f"copies in fp32 would take {report['finetuned']['ratio']} times" in told
    in_precision = f"copies in {precision} would take {report['finetuned']['ratio_in_precision']} times"
    assert in_precision in told


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    assert main(["--output", str(tmp_path)]) == 2
    assert "holds other things than a demonstration's" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "precious"
