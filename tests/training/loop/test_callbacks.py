from pathlib import Path

import pytest

from tests.support.callbacks import Killed, KillInEpoch
from tests.support.learning_data import tiny_options
from training.loop.callbacks import Callback
from training.loop.trainer import Trainer
from training.runs.learn import learn


class Stop(Callback):
    """Asks the run to end after every epoch, and counts its ends."""

    def __init__(self) -> None:
        self.ends = 0

    def on_epoch_end(self, trainer: Trainer) -> None:
        trainer.should_stop = True

    def on_train_end(self, trainer: Trainer) -> None:
        self.ends += 1


@pytest.mark.parametrize(("final_sparsity", "epochs"), [(None, 1), (0.3, 2)])
def test_a_run_stops_at_once_or_when_an_epoch_may_be_the_best(
    tmp_path: Path, tiny_bert: str, final_sparsity: float | None, epochs: int
) -> None:
    stop = Stop()
    report = learn(
        tiny_options(tmp_path, tiny_bert, epochs=4, final_sparsity=final_sparsity), callbacks=[stop]
    )
    assert len(report.epochs) == report.best_epoch == epochs
    assert stop.ends == 1


def test_the_end_is_told_also_when_learning_fails(tmp_path: Path, tiny_bert: str) -> None:
    stop = Stop()
    with pytest.raises(Killed):
        learn(tiny_options(tmp_path, tiny_bert), callbacks=[stop, KillInEpoch(1)])
    assert stop.ends == 1
