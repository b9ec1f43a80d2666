"""Trainer: the training loop, which learns one task epoch by epoch and can be killed at any moment.

Adam at a constant rate without decay (decay would pull scores below the threshold) and without clipping; an
evaluation and a checkpoint every epoch; stops after some epochs without gain. The order of examples follows
from the seed and the epoch, dropout from the seed and the step, all decisions from the saved history, so that
a resumed run learns the very same mask. The loop is written out, as `transformers.Trainer` would have to be
overridden in most of its methods for that.

A step may take several batches, and several processes may share each batch: the loss is that of all targets
of the step together, so it is the step of one process with one large batch.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from safetensors import SafetensorError

from masking import MaskedModel, TaskCodec, TaskModel
from training.data.features import Batch, EncodedExample, make_batch
from training.distributed import add_up, count, gather_shares, is_main, rank, share, together
from training.errors import DivergedError, RunFolderError
from training.kinds import TRAINING_KINDS
from training.loop.callbacks import Callback
from training.loop.checkpoint import load_checkpoint, load_learned, save_checkpoint
from training.loop.ema import Ema
from training.loop.evaluation import measure, predict
from training.loop.history import History
from training.loop.optimizer import adam, parameter_groups
from training.loop.order import DROPOUT, derive_seed, plan_epoch
from training.loop.run_folder import RunFolder
from training.loop.sparsity_schedule import SparsitySchedule, first_candidate, ramp_epochs
from training.loop.tracking import trackers
from training.options import LoopOptions

LOG_EVERY_STEPS = 20


class Trainer:
    """One training run, of a mask or of finetuned weights.

    Attributes:
        model: What learns.
        options: Options of the loop.
        optimizer: Adam over what is trainable.
        history: How far the run is.
        should_stop: Whether to end after the present epoch, whatever the history says; a run without an
            epoch that may be the best (`training.loop.sparsity_schedule`) continues until it has one.
    """

    def __init__(
        self,
        model: TaskModel,
        codec: TaskCodec,
        data: tuple[Sequence[EncodedExample], Sequence[EncodedExample]],
        options: LoopOptions,
        folder: RunFolder,
        callbacks: Sequence[Callback] = (),
        *,
        metric: str,
    ) -> None:
        """Set up a run, resumed from the folder's last checkpoint if there is one.

        Args:
            model: What to learn, fresh, on its device.
            codec: The task's codec.
            data: Examples to learn from, and examples to choose the best epoch by.
            options: Options of the loop.
            folder: Where checkpoints go.
            callbacks: Called at steps, logs and epochs.
            metric: Name of the dev metric that chooses the best epoch.

        Raises:
            RunMismatchError: The last checkpoint is of another version of this program.
            RunFolderError: It is damaged, or not the same in all processes.
            OtherProcessError: Another of the processes that learn together could not load it.
        """
        self.model, self.options, self.should_stop = model, options, False
        self._codec, self._folder, self._device = codec, folder, model.base.device
        self._train, self._dev = data
        self._callbacks = [*(trackers(options, folder.path.name) if is_main() else ()), *callbacks]
        self._lengths = [item.features.longest for item in self._train]
        steps = len(plan_epoch(self._lengths, options, 0))
        self.history = History(steps, options.max_epochs, options.patience, metric, first_candidate(options))
        self._weights = self._class_weights()
        groups = parameter_groups(model.trainable(), options.head_lr)
        self.optimizer = adam(groups, options.lr)
        self._ema = None if options.ema_decay is None else Ema(model.trainable(), options.ema_decay)
        self._schedule = None
        if options.final_sparsity is not None and isinstance(model, MaskedModel):
            ramp = steps * ramp_epochs(options.epochs)
            self._schedule = SparsitySchedule(model, options.final_sparsity, ramp)
        self._resume()
        self._loss = torch.zeros((), device=self._device)  # summed over the steps since the last log
        self._logged_step = self.history.step

    def train(self) -> History:
        """Learn until the run is finished; the model ends as the best epoch.

        Raises:
            DivergedError: The loss became infinite or not a number.
            RunFolderError: A checkpoint could not be written.
            OtherProcessError: Another of the processes that learn together failed.
        """
        if not self.history.is_finished:
            self._call(lambda callback: callback.on_train_begin(self))
            try:
                with _deterministic(self._device):
                    while not (self.history.is_finished or (self.should_stop and self.history.best_epoch)):
                        self._run_epoch()
            finally:
                self._call(lambda callback: callback.on_train_end(self))
        with together():  # the first process may remove the checkpoint as soon as the run is over
            load_learned(self._folder.checkpoint(self.history.best_step), self.model, self._ema)
        self._become_evaluated(self.history.best_step)
        return self.history

    def steps(self, epoch: int, first: int = 0) -> Iterator[list[Batch]]:
        """Make the batches of each step of an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            first: Number of the first step wanted, from 0.
        """
        kind, tokenizer = self._codec.spec.kind, self.model.base.tokenizer
        for batches in plan_epoch(self._lengths, self.options, epoch)[first:]:
            yield [
                make_batch([self._train[i] for i in batch], kind, tokenizer).to(self._device)
                for batch in batches
            ]

    def _class_weights(self) -> torch.Tensor | None:
        """Return the weight of each label in the loss, where they differ: float32 [labels]."""
        if self.options.class_weights is None:
            return None
        spec = self._codec.spec
        truth = [item.target for item in self._train]
        weights = TRAINING_KINDS[spec.kind].balanced_weights(truth, len(spec.labels))
        return torch.tensor(weights, dtype=torch.float32, device=self._device)

    def _resume(self) -> None:
        """Load the last checkpoint, if there is one, in all processes."""
        with together():
            if checkpoint := self._folder.last_checkpoint():
                load_checkpoint(checkpoint, self.model, self._ema, self.optimizer, self.history)
        if len(set(gather_shares([self.history.step]))) > 1:
            raise RunFolderError(f"{self._folder.path}: all processes must see the same run folder")

    def _run_epoch(self) -> None:
        history, save_steps = self.history, self.options.save_steps
        self.model.train()
        self._call(lambda callback: callback.on_epoch_begin(self))
        for batches in self.steps(len(history.epochs), history.steps_into_epoch):
            self._step(batches)
            self._call(lambda callback: callback.on_step_end(self))
            if save_steps and history.steps_into_epoch and history.step % save_steps == 0:
                self._log()
                self._save()
            elif history.step % LOG_EVERY_STEPS == 0:
                self._log()
        self._log()
        self._evaluate()
        self._save()
        self._call(lambda callback: callback.on_epoch_end(self))

    def _step(self, batches: Sequence[Batch]) -> None:
        """Learn from the batches of one step together."""
        step, kind = self.history.step, TRAINING_KINDS[self._codec.spec.kind]
        if self._schedule is not None:
            self._schedule.move_if_due(step, epoch_begins=self.history.steps_into_epoch == 0)
        torch.manual_seed(derive_seed(self.options.seed, DROPOUT, rank(), step))
        total = sum(batch.total for batch in batches)
        for batch in batches:
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
                logits = self.model(batch.inputs)
            loss = kind.loss(logits.float(), batch.targets, batch.counts, total, self._weights)
            loss.backward()
            self._loss += loss.detach()
        add_up([p.grad for p in self.model.trainable().values() if p.grad is not None])
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self._ema is not None:
            self._ema.update()
        self.history.step += 1

    def _log(self) -> None:
        """Tell callbacks the figures since the last time, and add the losses to the history."""
        steps = self.history.step - self._logged_step
        if steps == 0:
            return
        add_up([self._loss])
        loss = self._loss.item()
        self._loss.zero_()
        self._logged_step = self.history.step
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is no longer a number at step {self.history.step}: try a lower learning rate"
            )
        self.history.loss_sum += loss
        figures = {
            "loss": loss / steps,
            "learning_rate": self.options.lr,
            "zeros": self.model.sparsity(),
            "flipped": self.model.flip_rate(),
        }
        self._call(lambda callback: callback.on_log(self, figures))

    def _evaluate(self) -> None:
        """Measure the dev examples as serving would predict them, each process its share."""
        self._become_evaluated(self.history.step)
        own = predict(self.model, self._codec, share(self._dev), max_rows=self.options.batch_size // count())
        metrics = measure(self._codec, self._dev, gather_shares(own))
        self.history.end_epoch(metrics, self.model.sparsity(), self.model.flip_rate())
        if self._ema is not None:
            self._ema.swap()

    def _become_evaluated(self, step: int) -> None:
        """Make the model what is evaluated and published: of the averages, with the sparsity that is due."""
        if self._ema is not None:
            self._ema.swap()
        if self._schedule is not None:
            self._schedule.move(step)

    def _save(self) -> None:
        """Write a checkpoint, and only when it is whole drop the older ones that are not the best."""
        history = self.history
        try:
            with together():
                if is_main():
                    path = self._folder.checkpoint(history.step)
                    save_checkpoint(path, self.model, self._ema, self.optimizer, history)
                    self._folder.keep_only(history.step, history.best_step)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise RunFolderError(f"{self._folder.path}: a checkpoint can't be written: {error}") from error

    def _call(self, event: Callable[[Callback], None]) -> None:
        for callback in self._callbacks:
            event(callback)


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
