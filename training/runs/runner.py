"""One run of either method on prepared data: made once, measured, and remembered.

A mask is published where a store is given; otherwise what is learned is dropped. What runs are for, searching
a learning rate or comparing methods, is decided elsewhere.
"""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mask_store import MaskStore
from training.errors import DivergedError
from training.loop.history import EpochRecord, best_epoch, epoch_records
from training.loop.run_folder import RunFolder
from training.options import Method
from training.runs.finetune import finetune_copy
from training.runs.learn import learn_bundle, publish
from training.runs.preparation import Preparation
from training.runs.results import Result, Results

HOPELESS_EPOCH = 2
HOPELESS_MARGIN = 0.1


class StopHopeless(TrainerCallback):
    """Ends a run that lies far behind the best one.

    The rule: from the second epoch on, a run ends when its best dev value so far is more than 0.1 (10 points)
    below what the best run had reached after as many epochs.

    A run whose masks are on their way to a final share of zeros goes on until they have it.

    Attributes:
        stopped: whether the rule has ended the run.
    """

    def __init__(self, best: Sequence[float]) -> None:
        """Take the run to compare with.

        Args:
            best: dev value after each epoch of the best run so far; none to stop no run.
        """
        self._best = tuple(best)
        self.stopped = False

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the epoch that was just measured and saved."""
        metric = str(args.metric_for_best_model).removeprefix("eval_")
        values = [record.metrics[metric] for record in epoch_records(state)]
        over = control.should_training_stop  # by itself, which is no early end
        if not over and best_epoch(state) and is_hopeless(values, self._best):
            self.stopped = control.should_training_stop = True


def is_hopeless(values: Sequence[float], best: Sequence[float]) -> bool:
    """Tell whether a run need not go on; see `StopHopeless`.

    Args:
        values: its dev values after each epoch so far.
        best: those of the best run, which may have ended after fewer epochs; none where there is no such run.
    """
    epochs = len(values)
    behind = max(best[:epochs], default=-math.inf) - max(values)
    return epochs >= HOPELESS_EPOCH and behind > HOPELESS_MARGIN


@dataclass(frozen=True)
class Runner:
    """Makes runs, each once.

    Attributes:
        results: what is known already; gets each result before the checkpoints of its run are dropped.
        folder: in it go the folders of runs, named by method, rate and seed; a killed run goes on from there.
        callbacks: told of steps, logs and epochs.
        store: where to publish masks; None to publish nothing.
    """

    results: Results
    folder: Path
    callbacks: Sequence[TrainerCallback] = ()
    store: MaskStore | None = None

    def run(self, ready: Preparation, method: Method, rival: Result | None = None) -> Result:
        """Return what a run came to; it is made only if the results don't hold it whole.

        Args:
            ready: the task and its settings.
            method: how to learn it.
            rival: the best run so far, for `StopHopeless`; None to let the run go on whatever its values, and
                to make one again that was stopped.

        Returns:
            The result; a run that diverged has one too.

        Raises:
            TrainingError, MaskingError: as in `training.runs.learn.learn`, but for DivergedError.
        """
        identity = ready.identity_for(method)
        known = self.results.get(identity)
        if known is not None and (rival is not None or known.end != "stopped"):
            return known
        path = self.folder / f"{method}-lr{ready.options.lr:g}-seed{ready.options.seed}"
        with RunFolder.open(path, identity, fresh=ready.options.fresh) as folder:
            result = self._measure(ready, method, folder, rival)
            self.results.add(identity, result)
            folder.finish(result.to_dict())
        return result

    def _measure(self, ready: Preparation, method: Method, folder: RunFolder, rival: Result | None) -> Result:
        started = time.monotonic()
        stop = StopHopeless(rival.values if rival else ())
        epochs: tuple[EpochRecord, ...] = ()
        best = nbytes = 0
        with suppress(DivergedError):
            epochs, best, nbytes = self._learn(ready, method, folder, stop)
        return Result(
            method=method,
            lr=ready.options.lr,
            seed=ready.options.seed,
            end="diverged" if not epochs else "stopped" if stop.stopped else "finished",
            metric=ready.metric,
            values=tuple(record.metrics[ready.metric] for record in epochs),
            best_epoch=best,
            nbytes=nbytes,
            seconds=round(time.monotonic() - started, 3),
        )

    def _learn(
        self, ready: Preparation, method: Method, folder: RunFolder, stop: StopHopeless
    ) -> tuple[tuple[EpochRecord, ...], int, int]:
        """What each epoch came to, the number of the best one, and the bytes of what was learned."""
        callbacks = [*self.callbacks, stop]
        if method == "finetune":
            tuned = finetune_copy(ready, folder, callbacks=callbacks)
            return tuned.epochs, tuned.best_epoch, tuned.nbytes
        learned = learn_bundle(ready, folder, callbacks=callbacks)
        if self.store is not None:
            publish(self.store, learned.bundle, folder.path)
        manifest = learned.bundle.manifest
        return learned.epochs, learned.best_epoch, manifest.mask_bytes + manifest.head_bytes
