from pathlib import Path

import pytest

from tests.support.learning_data import tiny_options
from training.report import main
from training.runs.learn import learn


def test_a_run_leaves_its_page_and_the_command_writes_it_again(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(tiny_options(tmp_path, tiny_bert))
    folder = tmp_path / "run"
    first = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h2>Confusions</h2>" in first
    assert "calibration error" in (folder / "report.txt").read_text(encoding="utf-8")
    assert main([str(folder), "--output", str(tmp_path / "again.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'again.html'}\n"
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == first
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "runs-of-mine")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs-of-mine").rename(tmp_path / "runs" / "demo")
    assert main(["demo"]) == 0
    assert (tmp_path / "runs" / "demo" / "report.html").read_text(encoding="utf-8") == first


@pytest.mark.parametrize("run", ["absent", "."])
def test_what_is_no_run_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([run]) == 2
    assert "no such folder" in (error := capsys.readouterr().err) or "no report.json" in error
