import io
from pathlib import Path

import pytest

from tests.support.learning_data import tiny_options
from training.cli.progress import ProgressBar, epoch_line
from training.loop.history import EpochRecord
from training.runs.learn import learn


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_an_epoch_is_one_line() -> None:
    record = EpochRecord(2, 0.25, {"accuracy": 0.9, "f1": 0.5}, 0.061, 0.0123)
    assert epoch_line(record, 10, "f1") == (
        "epoch  2 of 10: loss 0.2500, dev f1 0.5000, zeros 6.10%, flipped 1.23%"
    )
    assert epoch_line(record, 10, "f1", 200).endswith("flipped 1.23%, at most 3 min 20 s left")


def test_the_bar_shows_loss_metric_zeros_and_flipped_bits(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    learn(tiny_options(tmp_path, tiny_bert), callbacks=[ProgressBar()])
    shown = terminal.getvalue()
    for expected in ("18/18", "step/s", "loss=", "accuracy=", "zeros=", "flipped=", "epoch  3 of 3"):
        assert expected in shown


def test_without_a_terminal_there_are_lines_and_no_bar(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    learn(tiny_options(tmp_path, tiny_bert), callbacks=[ProgressBar()])
    shown = capsys.readouterr().err.splitlines()
    assert [line[:12] for line in shown] == ["epoch  1 of ", "epoch  2 of ", "epoch  3 of "]
    assert [line.endswith(" left") for line in shown] == [True, True, False]
