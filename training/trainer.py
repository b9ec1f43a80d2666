"""The training loop: transformers' Trainer, told what learning a mask needs and kept from writing the base.

Adam at a constant rate without decay (decay would pull scores below the threshold) and without clipping; an
evaluation and a checkpoint every epoch; stops after some epochs without gain. A checkpoint holds the learned
state, the optimizer, the random state and the log, so a run that goes on from it learns the very same mask.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from masking import TaskCodec, TaskModel
from training.errors import DivergedError, RunFolderError
from training.evaluation import evaluate
from training.features import Collator, EncodedExample
from training.kept import KeptState
from training.loss import task_loss
from training.optimizer import adam, parameter_groups
from training.options import Precision
from training.run_folder import RunFolder
from training.sparsity import ramp_epochs

LOG_EVERY_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """What the loop is told.

    Attributes:
        lr: learning rate.
        epochs: most passes over the training examples.
        patience: epochs without gain after which to stop.
        batch_size: examples a batch in learning; rows a batch in evaluation.
        group_by_length: whether batches are of examples of similar length, in random order.
        precision: ``fp32``, or ``bf16`` for autocast in learning; evaluation is in fp32, as serving is.
        seed: seed of shuffling and dropout.
        metric: name of the dev metric to choose the best epoch by; higher is better.
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
    head_lr: float | None = None
    average: float | None = None
    final_sparsity: float | None = None

    @property
    def first_candidate(self) -> int:
        """Number of the first epoch that may be the best: the first to have the final share of zeros."""
        return 1 if self.final_sparsity is None else ramp_epochs(self.epochs)


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


class TaskTrainer(Trainer):
    """Learns one task: a mask, or finetuned weights for comparison."""

    def __init__(
        self,
        model: TaskModel,
        codec: TaskCodec,
        data: tuple[Sequence[EncodedExample], Sequence[EncodedExample]],
        settings: LoopSettings,
        folder: RunFolder,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """Set up the loop.

        Args:
            model: what to learn, on its device.
            codec: the task's codec.
            data: examples to learn from, and examples to choose the best epoch by.
            settings: see `LoopSettings`.
            folder: where checkpoints go.
            callbacks: told of steps, logs and epochs.
        """
        self.learner = model
        self.codec = codec
        self.settings = settings
        self.folder = folder
        self._train, self._dev = data
        self._kept = KeptState(model, settings.average, settings.final_sparsity)
        super().__init__(
            model=model,
            args=_arguments(settings, folder, model.base.device),
            data_collator=Collator(codec.spec.kind, model.base.tokenizer),
            train_dataset=data[0],
            eval_dataset=data[1],
            callbacks=[_EpochEnd(settings), *self._kept.callbacks, *callbacks],
        )
        self.remove_callback(PrinterCallback)

    def learn(self) -> TrainerState:
        """Learn, from the folder's last checkpoint on if there is one; the model ends as the best epoch.

        Returns:
            The final state; read it with `epoch_records` and `best_epoch`.

        Raises:
            DivergedError: the loss became infinite or not a number.
            RunFolderError: a checkpoint could not be written.
        """
        checkpoint = self.folder.last_checkpoint()
        if checkpoint is not None:
            self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if checkpoint is None or not is_finished(
            self.state, self.settings.patience, self.settings.first_candidate
        ):
            with _deterministic(self.args.device):
                self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        self._load_from_checkpoint(str(self.folder.checkpoint(self.state.best_global_step or 0)))
        self._kept.apply(self.state)
        return self.state

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the paper's Adam over what is trainable."""
        if self.optimizer is None:
            groups = parameter_groups(self.learner.trainable(), self.settings.head_lr)
            self.optimizer = adam(groups, self.settings.lr)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the task's loss on one batch, a scalar (with the logits if asked for)."""
        logits = model(inputs["inputs"])
        loss = task_loss(self.codec.spec.kind, logits, inputs["targets"], inputs["counts"])
        return (loss, logits) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the dev examples as serving would predict them, and log the metrics."""
        with self._kept.applied(self.state):
            measured = evaluate(self.learner, self.codec, self._dev, max_rows=self.settings.batch_size)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
            self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, adding the shares of zeros and of flipped bits.

        Raises:
            DivergedError: the loss is infinite or not a number.
        """
        if not math.isfinite(logs.get("loss", 0.0)):
            step = self.state.global_step
            raise DivergedError(f"the loss is no longer a number at step {step}: try a lower --lr")
        super().log(logs | {"zeros": self.learner.sparsity(), "flipped": self.learner.flipped()}, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """Order examples at random, or in random batches of similar length."""
        if not self.settings.group_by_length:
            sampler: Sampler[int] | None = super()._get_train_sampler(train_dataset)
            return sampler
        lengths = [item.features.longest for item in self._train]
        return _ByLength(self.settings, lengths)

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> float | None:
        """Skip the norm of all gradients, which is of use to clipping only."""
        return grad_norm

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write the learned state alone, where Trainer would write the whole model."""
        folder = Path(output_dir or self.folder.path)
        folder.mkdir(parents=True, exist_ok=True)
        self._kept.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self._kept.load(Path(resume_from_checkpoint))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Leave out the epochs before the masks have the final share of zeros."""
        if round(self.state.epoch or 0) < self.settings.first_candidate:
            return False
        return super()._determine_best_metric(metrics, trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint, and only when it is whole drop the older ones that are not the best."""
        try:
            super()._save_checkpoint(model, trial)
            self.folder.keep_only(self.state.global_step, self.state.best_global_step)
        except (OSError, RuntimeError) as error:
            raise RunFolderError(f"{self.folder.path}: a checkpoint can't be written: {error}") from error


class _ByLength(LengthGroupedSampler):
    """Random batches of similar length, which depend on the seed and the epoch's number alone.

    So a run that goes on after an epoch has the batches of one that was never stopped.
    """

    def __init__(self, settings: LoopSettings, lengths: list[int]) -> None:
        super().__init__(settings.batch_size, lengths=lengths, generator=torch.Generator())
        self._seed = settings.seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the epoch to come, from 0; the data loader calls this."""
        self.generator.manual_seed(self._seed + epoch)


class _EpochEnd(TrainerCallback):
    """Logs the rest of an epoch's loss, and stops after epochs without gain.

    Transformers' own EarlyStoppingCallback counts in memory; here the saved state alone decides, so that a
    run killed after its last epoch does not learn another one when it is started again.
    """

    def __init__(self, settings: LoopSettings) -> None:
        self._settings = settings

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_log = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if is_finished(state, self._settings.patience, self._settings.first_candidate):
            control.should_training_stop = True


def is_finished(state: TrainerState, patience: int, first_candidate: int = 1) -> bool:
    """Tell from the state after an epoch whether all are done or the last ones brought no gain.

    Args:
        state: the state.
        patience: epochs without gain after which to stop.
        first_candidate: number of the first epoch that may be the best; patience runs from there.
    """
    done = round(state.epoch or 0)
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


class _OneDeviceArguments(TrainingArguments):
    """Arguments of a loop on one device; with several GPUs Trainer would split batches over them."""

    @property
    def n_gpu(self) -> int:
        return min(int(super().n_gpu), 1)


def _arguments(settings: LoopSettings, folder: RunFolder, device: torch.device) -> TrainingArguments:
    return _OneDeviceArguments(
        output_dir=str(folder.path),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
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
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        log_level="error",
    )


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU, let torch choose only kernels that give the same bits each time."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
