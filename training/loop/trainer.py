"""The training loop: transformers' Trainer, told what learning a mask needs and kept from writing the base.

Adam at a constant rate without decay (decay would pull scores below the threshold) and without clipping; an
evaluation and a checkpoint every epoch; stops after some epochs without gain. A checkpoint holds the learned
state, the optimizer, the random state and the log, so a run that goes on from it learns the very same mask.

A step may take several batches, and several processes may share each batch: the loss is that of all targets
of the step together, so it is the step of one process with one large batch.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Sampler
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
from training.data.features import Collator, EncodedExample
from training.distributed import count, gather_shares, is_main, share, together
from training.errors import DivergedError, RunFolderError
from training.kinds.loss import task_loss
from training.loop.callbacks import SaveSteps, tensorboard
from training.loop.checkpoint import KeptState
from training.loop.evaluation import measure, predict
from training.loop.history import is_finished
from training.loop.optimizer import adam, parameter_groups
from training.loop.run_folder import RunFolder
from training.loop.settings import trainer_arguments
from training.loop.sparsity_schedule import first_candidate
from training.options import LoopOptions


class TaskTrainer(Trainer):
    """Learns one task: a mask, or finetuned weights for comparison."""

    def __init__(
        self,
        model: TaskModel,
        codec: TaskCodec,
        data: tuple[Sequence[EncodedExample], Sequence[EncodedExample]],
        settings: LoopOptions,
        folder: RunFolder,
        callbacks: Sequence[TrainerCallback] = (),
        *,
        metric: str,
    ) -> None:
        """Set up the loop.

        Args:
            model: what to learn, on its device.
            codec: the task's codec.
            data: examples to learn from, and examples to choose the best epoch by.
            settings: options of the loop.
            folder: where checkpoints go.
            callbacks: told of steps, logs and epochs.
            metric: name of the dev metric to choose the best epoch by.
        """
        if count() > 1:
            _leave_frozen_alone(model)
        self.learner = model
        self.codec = codec
        self.settings = settings
        self.first_candidate = first_candidate(settings)
        self.folder = folder
        self._train, self._dev = data
        self._kept = KeptState(model, settings.ema_decay, settings.final_sparsity)
        super().__init__(
            model=model,
            args=trainer_arguments(settings, metric, folder, model.base.device),
            data_collator=Collator(codec.spec.kind, model.base.tokenizer),
            train_dataset=data[0],
            eval_dataset=data[1],
            callbacks=[_EpochEnd(settings), *self._kept.callbacks, *_extras(settings, folder), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the targets of the whole step

    def learn(self) -> TrainerState:
        """Learn, from the folder's last checkpoint on if there is one; the model ends as the best epoch.

        Returns:
            The final state; read it with `training.loop.history`.

        Raises:
            DivergedError: the loss became infinite or not a number.
            RunFolderError: a checkpoint could not be written.
            OtherProcessError: another of the processes that learn together failed.
        """
        checkpoint = self.folder.last_checkpoint()
        if checkpoint is not None:
            self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if checkpoint is None or not is_finished(self.state, self.settings.patience, self.first_candidate):
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
        """Return the batch's part in the loss of the step, a scalar (with the logits if asked for).

        The gradients of several processes are averaged, so each has its part times their number.
        """
        logits = model(inputs["inputs"])
        total = inputs["total"] if num_items_in_batch is None else num_items_in_batch
        loss = task_loss(self.codec.spec.kind, logits, inputs["targets"], inputs["counts"], total) * count()
        return (loss, logits) if return_outputs else loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Go through the same batches in every process; the collator takes this one's share of each."""
        loader: DataLoader[Any] = DataLoader(
            self._train,  # type: ignore[arg-type]  # a sequence is a dataset
            batch_size=self.settings.batch_size,
            sampler=self._get_train_sampler(),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = prepare_data_loader(
            loader,
            self.args.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            use_seedable_sampler=True,
            data_seed=self.settings.seed,
        )
        return prepared

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], int]:
        """Return the batches of a step, and the number of their targets in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(batch["total"] for batch in batches)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the dev examples as serving would predict them, and log the metrics."""
        rows = self.settings.batch_size // count()
        with self._kept.applied(self.state):
            own = predict(self.learner, self.codec, share(self._dev), max_rows=rows)
            measured = measure(self.codec, self._dev, gather_shares(own))
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
            raise DivergedError(f"the loss is no longer a number at step {step}: try a lower learning rate")
        super().log(
            logs | {"zeros": self.learner.sparsity(), "flipped": self.learner.flip_rate()}, start_time
        )

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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the learned state alone, where Trainer would write the whole model."""
        folder = Path(output_dir or self.folder.path)
        with together():
            if is_main():
                folder.mkdir(parents=True, exist_ok=True)
                self._kept.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self._kept.load(Path(resume_from_checkpoint))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Leave out the epochs before the masks have the final share of zeros."""
        if round(self.state.epoch or 0) < self.first_candidate:
            return False
        return super()._determine_best_metric(metrics, trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint, and only when it is whole drop the older ones that are not the best."""
        try:
            with together():
                super()._save_checkpoint(model, trial)
            with together():
                if is_main():
                    self.folder.keep_only(self.state.global_step, self.state.best_global_step)
        except (OSError, RuntimeError) as error:
            raise RunFolderError(f"{self.folder.path}: a checkpoint can't be written: {error}") from error


class _ByLength(LengthGroupedSampler):
    """Random batches of similar length, which depend on the seed and the epoch's number alone.

    So a run that goes on after an epoch has the batches of one that was never stopped.
    """

    def __init__(self, settings: LoopOptions, lengths: list[int]) -> None:
        step = settings.batch_size * settings.gradient_accumulation_steps
        super().__init__(step, lengths=lengths, generator=torch.Generator())
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

    def __init__(self, settings: LoopOptions) -> None:
        self._settings = settings

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_log = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if is_finished(state, self._settings.patience, first_candidate(self._settings)):
            control.should_training_stop = True


def _extras(settings: LoopOptions, folder: RunFolder) -> Iterator[TrainerCallback]:
    if settings.save_steps:
        yield SaveSteps(settings.save_steps)
    if settings.tensorboard:
        yield tensorboard(Path(settings.tensorboard) / folder.path.name)


def _leave_frozen_alone(model: TaskModel) -> None:
    """Have processes that learn together send each other what is learned, and never write to the base."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    buffers = {name for name, _ in model.named_buffers()}
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen | buffers)


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
