import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mask_store import MaskStore
from tests.support.learning_data import command_line, reviews, write_lines
from training.learn_mask import main
from training.runs import learn as learn_module


def test_the_report_is_printed_with_the_line_that_calls_the_task(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command_line(tmp_path, tiny_bert)) == 0
    printed = capsys.readouterr()
    digest = MaskStore.open(tmp_path / "store").current("demo").digest
    for expected in ("demo version 1", digest, "accuracy", "finetuned copy", "curl -s", "/predict/demo"):
        assert expected in printed.out
    assert "epoch  1 of 1: loss" in printed.err
    assert "Traceback" not in printed.err


def test_json_is_all_there_is_on_stdout(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command_line(tmp_path, tiny_bert), "--json", "--quiet"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["version"] == 1
    assert report["metrics"]["accuracy"] == report["epochs"][report["best_epoch"] - 1]["metrics"]["accuracy"]
    assert all(line.startswith("warning: ") for line in printed.err.splitlines())


GOOD = reviews(1)[0]
# what is wrong: (options, files to write and name in options, what is told)
BAD_INPUTS: dict[str, tuple[dict[str, str], dict[str, list[Any]], str]] = {
    "misspelt column": ({"label_column": "lable"}, {}, "no column 'lable'; there are 'text', 'label'"),
    "empty file": ({}, {"train": []}, "train-bad.jsonl: the file is empty"),
    "one label": ({}, {"train": [GOOD]}, "every row has the label 'positive'"),
    "unknown label": ({}, {"dev": [GOOD, {"text": "a", "label": "x"}]}, "'x' (line 2)"),
    "broken line": ({}, {"train": [GOOD, "{oops"]}, "train-bad.jsonl:2: broken JSON"),
    "absent file": ({"train": "absent.jsonl"}, {}, "absent.jsonl: no such file"),
    "task name": ({"task": "No/Name"}, {}, "no task can be called 'No/Name'"),
    "base": ({"base": "nowhere/at/all/./"}, {}, "there is no such folder"),
    "blocks": ({"blocks": "7"}, {}, "has blocks 0 to 2"),
    "store": ({}, {"store": ["a file"]}, "store-bad.jsonl"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    changes, files, message = BAD_INPUTS[case]
    written = {name: str(write_lines(tmp_path / f"{name}-bad.jsonl", rows)) for name, rows in files.items()}
    assert main([*command_line(tmp_path, tiny_bert, **changes, **written), "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err


def test_a_preset_is_refused_together_with_what_it_sets(capsys: pytest.CaptureFixture[str]) -> None:
    required = ["--task", "t", "--kind", "multiple-choice", "--base", "b", "--store", "s", "--dataset", "d"]
    assert main([*required, "--preset", "paper", "--blocks", "2-"]) == 2
    assert capsys.readouterr().err == "error: --blocks: --preset paper sets it; leave out one of the two\n"


def test_mistakes_in_options_are_told_all_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    required = ["--task", "t", "--kind", "multiple-choice", "--base", "b", "--store", "s", "--dataset", "d"]
    assert main([*required, "--lr", "0", "--epochs", "0", "--text-column", "x"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert all(line.startswith("error: --") for line in told)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (
            KeyboardInterrupt(),
            130,
            "stopped; give the same command again to resume after the last checkpoint\n",
        ),
        (OSError(28, "No space left", "runs/demo"), 1, "error: [Errno 28] No space left: 'runs/demo'\n"),
    ],
)
def test_what_ends_a_run_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    message: str,
) -> None:
    def end(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(learn_module, "learn", end)
    required = ["--task", "t", "--kind", "multiple-choice", "--base", "b", "--store", "s", "--dataset", "d"]
    assert main(required) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("learn_mask", ("--seeds", "examples:", "columns", "bert-base-uncased")),
        ("search", ("--grid", "--method", "that was killed resumes")),
        ("compare", ("--finetune-lr", "standard deviation")),
    ],
)
def test_help_teaches_without_loading_torch(command: str, told: tuple[str, ...]) -> None:
    check = (
        f"import runpy, sys; sys.argv = ['{command}', '--help']\n"
        f"try: runpy.run_module('training.{command}', run_name='__main__')\n"
        "except SystemExit as end: sys.exit(end.code or ('torch' in sys.modules) * 3)\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for expected in ("--lr", *told):
        assert expected in " ".join(done.stdout.split())
