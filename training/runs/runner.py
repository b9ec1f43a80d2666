"""Runner: one run of either method on prepared data, made once, measured, and remembered.

A mask is published where a store is given; weights are kept where the results keep them. What runs are for,
searching a learning rate, comparing methods or an experiment, is decided elsewhere.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from mask_store import MaskStore
from masking import TaskModel
from training.data.features import EncodedExample
from training.errors import DivergedError, NothingLearnedError, RunFolderError
from training.loop.callbacks import Callback
from training.loop.evaluation import evaluate
from training.loop.history import EpochRecord
from training.loop.run_folder import Identity, RunFolder
from training.loop.trainer import Trainer
from training.options import Method
from training.runs.finetune import Finetuned, finetune_copy
from training.runs.learn import Learned, accept_mask, learn_bundle, learn_model, publish_kept
from training.runs.preparation import Preparation
from training.runs.results import Result, Results, short_hash

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=TaskModel)

HOPELESS_EPOCH = 2
HOPELESS_MARGIN = 0.1


class StopHopeless(Callback):
    """Ends a run that lies far behind the best one.

    The rule: from the second epoch on, a run ends when its best dev value so far is more than 0.1 (10 points)
    below what the best run had reached after as many epochs.

    A run whose masks are on their way to a final sparsity continues until they have it.

    Attributes:
        stopped: Whether the rule has ended the run.
    """

    def __init__(self, best: Sequence[float]) -> None:
        """Take the run to compare with.

        Args:
            best: Dev value after each epoch of the best run so far; none to stop no run.
        """
        self._best = tuple(best)
        self.stopped = False

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Look at the epoch that was just measured and saved."""
        history = trainer.history
        values = [record.metrics[history.metric] for record in history.epochs]
        if not history.is_finished and history.best_epoch and is_hopeless(values, self._best):
            self.stopped = trainer.should_stop = True


def is_hopeless(values: Sequence[float], best: Sequence[float]) -> bool:
    """Tell whether a run may be stopped; see `StopHopeless`.

    Args:
        values: Its dev values after each epoch so far.
        best: Those of the best run, which may have ended after fewer epochs; none where there is no such run.
    """
    epochs = len(values)
    behind = max(best[:epochs], default=-math.inf) - max(values)
    return epochs >= HOPELESS_EPOCH and behind > HOPELESS_MARGIN


@dataclass(frozen=True)
class HeldOutRows:
    """Rows of a task that neither learn nor choose.

    Attributes:
        examples: The rows, encoded for the base; at least one.
        digest: Of the rows as read, see `training.data.rows.data_digest`.
    """

    examples: Sequence[EncodedExample]
    digest: str


@dataclass(frozen=True)
class Runner:
    """Makes runs, each once.

    Attributes:
        results: Finished runs; gets each result before the checkpoints of its run are dropped.
        folder: Holds the folders of runs, each with a name of its own; a killed run resumes there.
        callbacks: Called with steps, logs and epochs.
        store: Where to publish masks; None to publish nothing.
        held_out: Rows to measure each run on at its best epoch; None to measure on dev alone.
    """

    results: Results
    folder: Path
    callbacks: Sequence[Callback] = ()
    store: MaskStore | None = None
    held_out: HeldOutRows | None = None

    def run(self, ready: Preparation, method: Method, rival: Result | None = None) -> Result:
        """Return the result of a run, which is made only if the results don't hold it whole.

        Args:
            ready: The task and its settings.
            method: How to learn it.
            rival: The best run so far, for `StopHopeless`; None to finish the run whatever its values, and to
                make one again that was stopped.

        Returns:
            The result; a run that diverged has one too.

        Raises:
            TrainingError, MaskingError: As in `training.runs.learn.learn`, but for DivergedError.
        """
        name = f"{method}-lr{ready.options.lr:g}-seed{ready.options.seed}"
        learn = partial(self._learn, ready, method)
        return self._once(ready, method, ready.identity_for(method), name, learn, rival)

    def run_model(
        self,
        ready: Preparation,
        identity: Identity,
        make: Callable[[], ModelT],
        nbytes: Callable[[ModelT], int],
        keep: Callable[[ModelT], TaskModel] = lambda model: model,
    ) -> Result:
        """Return the result of a run with a model of the caller's own; otherwise as `run`.

        Args:
            ready: The task and its settings; the model learns as masks do.
            identity: What the run follows from: the settings, and what is the model's own.
            make: Makes the model.
            nbytes: Returns the bytes that its task takes in addition to the base.
            keep: Returns what is kept as the run's weights, where weights are.
        """

        def learn(folder: RunFolder, callbacks: Sequence[Callback]) -> _Made:
            model = make()
            history, _ = learn_model(model, ready, "mask", folder, callbacks=callbacks)
            return _Made(model, tuple(history.epochs), history.best_epoch, nbytes(model), keep(model))

        return self._once(ready, "mask", identity, short_hash(identity), learn)

    def _once(
        self,
        ready: Preparation,
        method: Method,
        identity: Identity,
        name: str,
        learn: Callable[[RunFolder, Sequence[Callback]], "_Made"],
        rival: Result | None = None,
    ) -> Result:
        path, known = self.folder / name, self.results.get(identity)
        if known is not None and (rival is not None or known.end != "stopped"):
            _finish(path, identity, known)
            return known
        with RunFolder.open(path, identity, fresh=ready.options.fresh) as folder:
            started = time.monotonic()
            stop = StopHopeless(rival.values if rival else ())
            made: _Made | None = None
            with suppress(DivergedError):
                made = learn(folder, [*self.callbacks, stop])
            result = Result(
                method=method,
                lr=ready.options.lr,
                seed=ready.options.seed,
                end="diverged" if made is None else "stopped" if stop.stopped else "finished",
                metric=ready.metric,
                values=tuple(record.metrics[ready.metric] for record in made.epochs) if made else (),
                best_epoch=made.best_epoch if made else 0,
                nbytes=made.nbytes if made else 0,
                held_out=self._measure_held_out(ready, made.model) if made else {},
                seconds=round(time.monotonic() - started, 3),
                epochs=made.epochs if made else (),
            )
            self.results.add(identity, result, made.kept if made else None)
            folder.finish(result.to_dict())
        return result

    def _measure_held_out(self, ready: Preparation, model: TaskModel) -> dict[str, dict[str, float]]:
        """Return the metrics on the held-out rows by their digest; empty where there are none."""
        rows = self.held_out
        if rows is None:
            return {}
        most = ready.options.batch_size
        return {rows.digest: evaluate(model, ready.codec, rows.examples, max_rows=most)}

    def _learn(
        self, ready: Preparation, method: Method, folder: RunFolder, callbacks: Sequence[Callback]
    ) -> "_Made":
        if method == "finetune":
            return _Made.of(finetune_copy(ready, folder, callbacks=callbacks))
        learned = learn_bundle(ready, folder, callbacks=callbacks)
        if self.store is not None:
            _publish(self.store, ready, learned, folder)
        return _Made.of(learned)


@dataclass(frozen=True)
class _Made:
    """What a run learned.

    Attributes:
        model: The model, as it was at the best epoch.
        epochs: Record of each epoch.
        best_epoch: Number of the best epoch.
        nbytes: Bytes that the task takes in addition to the base.
        kept: The model whose weights are kept.
    """

    model: TaskModel
    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    nbytes: int
    kept: TaskModel

    @classmethod
    def of(cls, learned: Learned | Finetuned) -> "_Made":
        """Return what one of the two methods learned."""
        return cls(learned.model, learned.epochs, learned.best_epoch, learned.nbytes, learned.model)


def _publish(store: MaskStore, ready: Preparation, learned: Learned, folder: RunFolder) -> None:
    """Publish a mask, or say why it is not worth it."""
    try:
        accept_mask(ready, learned)
    except NothingLearnedError as error:
        logger.warning(f"warning: not published without --force, as nothing was learned: {error.found}")
    else:
        publish_kept(store, learned.bundle, folder)


def _finish(path: Path, identity: Identity, result: Result) -> None:
    """Remove what a run left that was killed between its result and the end of its folder.

    A run that was stopped may be under way again, to be made whole, and is left alone; so is a folder that
    another run uses.
    """
    if result.end != "stopped" and RunFolder(path).has_remains:
        with suppress(RunFolderError), RunFolder.open(path, identity) as folder:
            folder.finish(result.to_dict())
