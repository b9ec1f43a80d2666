"""Progress of a run: a bar with the figures that matter, and a line for each epoch."""

import sys
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.loop.history import EpochRecord, epoch_records


class ProgressBar(TrainerCallback):
    """A tqdm bar on stderr: loss, dev metric, share of zeros, share of flipped bits.

    Where stderr is no terminal the bar is left out and the line per epoch stays. Of several processes
    that learn together the first alone shows anything.
    """

    def __init__(self, metric: str | None = None) -> None:
        """Make a bar.

        Args:
            metric: Dev metric to show; None for the one that chooses the best epoch.
        """
        self._metric = metric
        self._bar: tqdm[Any] | None = None
        self._dev: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar, where a killed run stopped if this one resumes it."""
        if not state.is_world_process_zero:
            return
        self.close()
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="batch", dynamic_ncols=True, disable=None
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move on by a batch."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest figures."""
        if self._bar is None or not logs or "loss" not in logs:
            return
        figures = {"loss": f"{logs['loss']:.3f}", **self._dev}
        figures |= {"zeros": f"{logs['zeros']:.1%}", "flipped": f"{logs['flipped']:.1%}"}
        self._bar.set_postfix(figures)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the epoch's line."""
        if not state.is_world_process_zero:
            return
        metric = self._metric or str(args.metric_for_best_model).removeprefix("eval_")
        record = epoch_records(state)[-1]
        self._dev = {metric: f"{record.metrics[metric]:.4f}"}
        tqdm.write(epoch_line(record, round(args.num_train_epochs), metric), file=sys.stderr)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, so that what is printed next starts a new line; may be called again."""
        if self._bar is not None:
            self._bar.close()


def epoch_line(record: EpochRecord, epochs: int, metric: str) -> str:
    """Write the figures of an epoch on a line."""
    return (
        f"epoch {record.number:>2} of {epochs}: loss {record.loss:.4f}, "
        f"dev {metric} {record.metrics[metric]:.4f}, zeros {record.zeros:.2%}, flipped {record.flipped:.2%}"
    )
