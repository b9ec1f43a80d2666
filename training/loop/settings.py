"""Arguments of transformers' Trainer: what the options of the loop are called there."""

import torch
from transformers import TrainingArguments

from training.distributed import count, rank
from training.loop.run_folder import RunFolder
from training.options import MAX_SEED, LoopOptions

LOG_EVERY_STEPS = 20


class _OneDeviceArguments(TrainingArguments):
    """Arguments of a loop on one device; with several GPUs Trainer would split batches over them."""

    @property
    def n_gpu(self) -> int:
        return min(int(super().n_gpu), 1)


def trainer_arguments(
    settings: LoopOptions, metric: str, folder: RunFolder, device: torch.device
) -> TrainingArguments:
    """Return what transformers' Trainer is told: a constant rate, no clipping, a checkpoint every epoch.

    Args:
        settings: options of the loop.
        metric: name of the dev metric to choose the best epoch by.
        folder: where checkpoints go.
        device: where the model is.
    """
    return _OneDeviceArguments(
        output_dir=str(folder.path),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size // count(),
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        ddp_find_unused_parameters=False,
        learning_rate=settings.lr,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model=metric,
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
