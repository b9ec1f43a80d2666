import json
from pathlib import Path

import pytest

from training.errors import RunFolderError, RunMismatchError
from training.loop.history import History


def _history(*values: float, first_candidate: int = 1, patience: int = 2) -> History:
    history = History(10, 10, patience, "accuracy", first_candidate)
    for value in values:
        history.step += history.steps_per_epoch
        history.end_epoch({"accuracy": value}, zeros=0.0, flipped=0.0)
    return history


def test_finished_follows_from_the_history_alone() -> None:
    history = _history(0.9, 0.8, 0.9)
    assert (history.best_epoch, history.best_step) == (1, 10)
    assert history.is_finished
    assert not _history(0.9, 0.8, 0.9, patience=3).is_finished
    assert _history(*[0.9] * 10, patience=30).is_finished
    late = _history(0.9, 0.8, 0.7, first_candidate=5)
    assert (late.best_epoch, late.is_finished) == (0, False)
    assert _history(0.9, 0.9, 0.8, 0.7, 0.7, first_candidate=3).is_finished


def test_an_epochs_loss_is_the_mean_over_its_steps() -> None:
    history = _history()
    history.loss_sum = 5.0
    assert history.end_epoch({"accuracy": 0.5}, zeros=0.1, flipped=0.2).loss == 0.5
    assert history.loss_sum == 0.0


def test_a_history_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    history = _history(0.1 + 0.2, 1 / 3)
    history.loss_sum, history.step = 2 / 3, 23
    history.save(tmp_path / "history.json")
    other = _history()
    other.load(tmp_path / "history.json")
    assert other == history
    assert (other.steps_into_epoch, other.max_steps) == (3, 100)


@pytest.mark.parametrize("content", [None, json.dumps({"format": 0})])
def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "checkpoint-10" / "history.json"
    path.parent.mkdir()
    (path.parent / "trainer_state.json").write_text("{}")
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunMismatchError, match=r"checkpoint-10 was written by another version.*--fresh"):
        _history().load(path)


@pytest.mark.parametrize("content", ["{", "[]", "null", "{}", '{"format": 1, "step": 3}', "\udcff"])
def test_a_damaged_history_is_told_as_damaged(tmp_path: Path, content: str) -> None:
    path = tmp_path / "history.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(RunFolderError, match=r"history\.json is damaged; --fresh learns it again") as raised:
        _history().load(path)
    assert raised.type is RunFolderError
