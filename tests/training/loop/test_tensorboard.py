from pathlib import Path
from typing import Any

import pytest

from tests.support.learning_data import tiny_options
from training.errors import OptionsError
from training.runs.learn import learn
from training.runs.preparation import prepare


def test_a_run_is_drawn_in_a_folder_of_its_own(tmp_path: Path, tiny_bert: str) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    report = learn(tiny_options(tmp_path, tiny_bert, tensorboard=str(tmp_path / "board")))
    events: Any = EventAccumulator(str(tmp_path / "board" / "run"))
    events.Reload()
    assert {"train/loss", "train/zeros"} <= set(events.Tags()["scalars"])
    assert all(event.value == pytest.approx(5e-3) for event in events.Scalars("train/learning_rate"))
    accuracies = [event.value for event in events.Scalars("eval/accuracy")]
    assert accuracies == pytest.approx([epoch.metrics["accuracy"] for epoch in report.epochs])
    assert events.Scalars("train/flipped")[-1].value == pytest.approx(report.epochs[-1].flipped)


def test_what_is_not_installed_is_told_before_anything_is_learned(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.runs.preparation.is_tensorboard_available", lambda: False)
    with pytest.raises(OptionsError, match=r"pip install 'maskserve\[tensorboard\]'"):
        prepare(tiny_options(tmp_path, tiny_bert, tensorboard="board"))
