"""Tracking of runs: the figures of learning by step, in TensorBoard, MLflow or Weights & Biases.

They are written by the trackers of accelerate, and each finds its server, its project and its keys in its own
environment variables, such as ``MLFLOW_TRACKING_URI`` or ``WANDB_MODE``.
"""

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from training.errors import OptionsError
from training.loop.callbacks import Callback
from training.options import LoopOptions, Tracker

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from training.loop.trainer import Trainer

PROJECT = "maskserve"

logger = logging.getLogger(__name__)


def check_trackers(options: LoopOptions) -> list[str]:
    """Return what is wrong with the trackers that are asked for, a sentence each."""
    wanted: dict[str, str] = {"tensorboard": "--tensorboard"} if options.tensorboard else {}
    wanted |= {name: f"--track {name}" for name in options.track or ()}
    return [
        f"{option}: it is not installed; pip install 'maskserve[{name}]'"
        for name, option in wanted.items()
        if not _is_installed(name)
    ]


def trackers(options: LoopOptions, run: str) -> Iterator[Callback]:
    """Yield a callback for each tracker that is asked for.

    Args:
        options: Options of the loop.
        run: Name of the run.
    """
    # accelerate takes seconds to import, and most runs are not tracked
    if options.tensorboard:
        from accelerate.tracking import TensorBoardTracker  # noqa: PLC0415

        yield Tracking(TensorBoardTracker(run, options.tensorboard), "--tensorboard")
    for name in options.track or ():
        yield Tracking(_tracker(name, run), f"--track {name}", settings=_settings(options))


class Tracking(Callback):
    """Hands figures to a tracker: ``train/<figure>`` and ``eval/<metric>`` by step.

    A tracker that fails to start ends the run before it learns; one that fails later is left out with a
    warning, as a mask is worth more than its curves.
    """

    def __init__(
        self, tracker: "GeneralTracker", option: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Take a tracker.

        Args:
            tracker: The tracker, not started.
            option: The option that asks for it, for messages.
            settings: Settings of the run that it is to keep.
        """
        self._tracker: GeneralTracker | None = tracker
        self._option = option
        self._settings = settings

    def on_train_begin(self, trainer: "Trainer") -> None:
        """Start the tracker."""
        assert self._tracker is not None
        try:
            self._tracker.start()
            if self._settings:
                self._tracker.store_init_configuration(dict(self._settings))
        except Exception as error:  # the libraries raise dozens of unrelated classes
            raise OptionsError([f"{self._option}: {_one_line(error)}"]) from error

    def on_log(self, trainer: "Trainer", figures: Mapping[str, float]) -> None:
        """Write figures of learning."""
        self._write({f"train/{name}": value for name, value in figures.items()}, trainer.history.step)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """Write dev metrics, and the masks' figures as they were evaluated."""
        epoch = trainer.history.epochs[-1]
        values = {f"eval/{name}": value for name, value in epoch.metrics.items()}
        values |= {"train/zeros": epoch.zeros, "train/flipped": epoch.flipped, "epoch": epoch.number}
        self._write(values, trainer.history.step)

    def on_train_end(self, trainer: "Trainer") -> None:
        """Close the tracker."""
        with self._surviving() as tracker:
            if tracker is not None:
                tracker.finish()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        with self._surviving() as tracker:
            if tracker is not None:
                tracker.log(dict(values), step=step)

    @contextmanager
    def _surviving(self) -> "Iterator[GeneralTracker | None]":
        try:
            yield self._tracker
        except Exception as error:  # as above
            logger.warning(f"warning: {self._option} failed and is left out from here: {_one_line(error)}")
            self._tracker = None


def _tracker(name: Tracker, run: str) -> "GeneralTracker":
    from accelerate.tracking import MLflowTracker, WandBTracker  # noqa: PLC0415

    if name == "mlflow":
        return MLflowTracker(PROJECT, run_name=run)
    return WandBTracker(os.environ.get("WANDB_PROJECT", PROJECT), name=run)


def _settings(options: LoopOptions) -> dict[str, Any]:
    own = options.model_dump(by_alias=True, include=set(LoopOptions.model_fields) - {"tensorboard", "track"})
    return {name: value for name, value in own.items() if value is not None}


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
