"""Checkpoint: the files from which a run is resumed, and the best epoch is taken at the end.

    learned.safetensors   what learns; where the threshold has moved, the threshold too
    ema.safetensors       its averages, where the run has an EMA
    optimizer.pt          Adam's moments
    history.json          steps and epochs so far

Random numbers need no file: they follow from the seed and the number of steps.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from masking import TaskModel
from training.loop.ema import Ema
from training.loop.history import History

LEARNED_FILE = "learned.safetensors"
EMA_FILE = "ema.safetensors"
OPTIMIZER_FILE = "optimizer.pt"
HISTORY_FILE = "history.json"


def save_checkpoint(
    folder: Path, model: TaskModel, ema: Ema | None, optimizer: torch.optim.Optimizer, history: History
) -> None:
    """Write all of a checkpoint.

    Args:
        folder: Where to; made if it isn't there.
        model: What learns.
        ema: Its averages; None for none.
        optimizer: The optimizer.
        history: How far the run is.

    Raises:
        OSError, RuntimeError, SafetensorError: A file can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.learned_state(), folder / LEARNED_FILE)
    if ema is not None:
        save_file(ema.state(), folder / EMA_FILE)
    torch.save(optimizer.state_dict(), folder / OPTIMIZER_FILE)
    history.save(folder / HISTORY_FILE)


def load_checkpoint(
    folder: Path, model: TaskModel, ema: Ema | None, optimizer: torch.optim.Optimizer, history: History
) -> None:
    """Put back all that `save_checkpoint` wrote; see there.

    Raises:
        RunMismatchError: The checkpoint is of another version of this program.
        RunFolderError: It is damaged.
    """
    history.load(folder / HISTORY_FILE)
    load_learned(folder, model, ema)
    optimizer.load_state_dict(torch.load(folder / OPTIMIZER_FILE, map_location="cpu", weights_only=True))


def load_learned(folder: Path, model: TaskModel, ema: Ema | None) -> None:
    """Put back what was learned, without the optimizer."""
    model.load_learned_state(load_file(folder / LEARNED_FILE))
    if ema is not None:
        ema.load_state(load_file(folder / EMA_FILE))
