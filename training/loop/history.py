"""What the saved state of a run tells of its epochs: what each came to, which is best, whether more are due.

Everything follows from transformers' `TrainerState`, which a checkpoint holds, so that a run that goes on
decides as one that was never stopped. Nothing here learns or evaluates.
"""

from dataclasses import dataclass

from transformers import TrainerState


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to.

    Attributes:
        number: 1 for the first.
        loss: mean training loss over it.
        metrics: dev metrics after it.
        zeros: share of zero bits after it.
        flipped: share of bits that differ from the mask at the start.
    """

    number: int
    loss: float
    metrics: dict[str, float]
    zeros: float
    flipped: float


def is_finished(state: TrainerState, patience: int, first_candidate: int = 1) -> bool:
    """Tell from the state whether all epochs are done or the last ones brought no gain.

    Args:
        state: the state.
        patience: epochs without gain after which to stop.
        first_candidate: number of the first epoch that may be the best; patience runs from there.
    """
    done = int(state.epoch or 0)
    return done >= state.num_train_epochs or done - max(best_epoch(state), first_candidate) >= patience


def best_epoch(state: TrainerState) -> int:
    """Return the number of the epoch with the best dev metric, the first of equals; 0 before any."""
    return round((state.best_global_step or 0) * state.num_train_epochs / state.max_steps)


def epoch_records(state: TrainerState) -> tuple[EpochRecord, ...]:
    """Read what each epoch came to from the log."""
    records: list[EpochRecord] = []
    losses: list[tuple[int, float]] = []
    last_step = 0
    for entry in state.log_history:
        if "loss" in entry:
            steps = int(entry["step"]) - last_step
            losses.append((steps, entry["loss"] * steps))
            last_step = int(entry["step"])
        metrics = {name.removeprefix("eval_"): v for name, v in entry.items() if name.startswith("eval_")}
        if metrics:
            loss = sum(total for _, total in losses) / max(1, sum(steps for steps, _ in losses))
            number = len(records) + 1
            records.append(EpochRecord(number, loss, metrics, entry["zeros"], entry["flipped"]))
            losses.clear()
    return tuple(records)
