"""Settings of the training loop, and what they are called in transformers' Trainer.

What the loop does is in `training.loop.trainer`; a user's settings are `training.options.LearnOptions`.
"""

from dataclasses import dataclass

import torch
from transformers import TrainingArguments

from training.distributed import count, rank
from training.loop.run_folder import RunFolder
from training.loop.sparsity_schedule import ramp_epochs
from training.options import MAX_SEED, Precision

LOG_EVERY_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """What the loop is told.

    Attributes:
        lr: learning rate.
        epochs: most passes over the training examples.
        patience: epochs without gain after which to stop.
        batch_size: examples a batch in learning, rows a batch in evaluation, of all processes together.
        accumulate: batches a step.
        group_by_length: whether batches are of examples of similar length, in random order.
        precision: ``fp32``, or ``bf16`` for autocast in learning; evaluation is in fp32, as serving is.
        seed: seed of shuffling and dropout.
        metric: name of the dev metric to choose the best epoch by; higher is better.
        save_steps: steps between checkpoints within an epoch; None for none but at its end.
        tensorboard: folder for TensorBoard, where the run has the subfolder of its own name; None for none.
        head_lr: learning rate of a trained head; None for that of the rest.
        average: decay of the average that is evaluated and kept; None for what was learned last.
        final_sparsity: share of zeros that masks end with; None for what learning makes of it.
    """

    lr: float
    epochs: int
    patience: int
    batch_size: int
    group_by_length: bool
    precision: Precision
    seed: int
    metric: str
    accumulate: int = 1
    save_steps: int | None = None
    tensorboard: str | None = None
    head_lr: float | None = None
    average: float | None = None
    final_sparsity: float | None = None

    @property
    def first_candidate(self) -> int:
        """Number of the first epoch that may be the best: the first to have the final share of zeros."""
        return 1 if self.final_sparsity is None else ramp_epochs(self.epochs)


class _OneDeviceArguments(TrainingArguments):
    """Arguments of a loop on one device; with several GPUs Trainer would split batches over them."""

    @property
    def n_gpu(self) -> int:
        return min(int(super().n_gpu), 1)


def trainer_arguments(settings: LoopSettings, folder: RunFolder, device: torch.device) -> TrainingArguments:
    """Return what transformers' Trainer is told: a constant rate, no clipping, a checkpoint every epoch.

    Args:
        settings: see `LoopSettings`.
        folder: where checkpoints go.
        device: where the model is.
    """
    return _OneDeviceArguments(
        output_dir=str(folder.path),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size // count(),
        gradient_accumulation_steps=settings.accumulate,
        ddp_find_unused_parameters=False,
        learning_rate=settings.lr,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model=settings.metric,
        greater_is_better=True,
        logging_strategy="steps",
        logging_steps=LOG_EVERY_STEPS,
        logging_nan_inf_filter=False,
        bf16=settings.precision == "bf16",
        seed=(settings.seed + rank()) % (MAX_SEED + 1),  # a dropout of its own in each process
        data_seed=settings.seed,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        log_level="error",
    )
