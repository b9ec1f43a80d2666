from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mask_store import TaskKind
from masking import MaskedModel
from tests.support.callbacks import KillAtStep, Killed
from tests.support.learning_data import ROWS, tiny_options, without_dropout
from tests.support.models import assert_learned_alike
from training.errors import DivergedError, RunFolderError, RunMismatchError
from training.kinds import TrainingKind
from training.loop.callbacks import Callback
from training.loop.checkpoint import LEARNED_FILE
from training.loop.history import History
from training.loop.run_folder import RunFolder
from training.loop.trainer import Trainer
from training.runs.preparation import Preparation, prepare


class Watch(Callback):
    """Keeps the optimizer, and the number, learning rate and dropout of every step."""

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.rates: set[float] = set()
        self.steps: list[int] = []
        self.training = True

    def on_step_end(self, trainer: Trainer) -> None:
        self.optimizer = trainer.optimizer
        self.rates |= {group["lr"] for group in self.optimizer.param_groups}
        self.steps.append(trainer.history.step)
        self.training &= trainer.model.training


class KeepScores(Callback):
    """Keeps a layer's scores after every step."""

    LAYER = "pooler.dense"

    def __init__(self) -> None:
        self.scores: list[torch.Tensor] = []

    def on_step_end(self, trainer: Trainer) -> None:
        self.scores.append(trainer.model.learned_state()[self.LAYER])


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, tiny_bert: str) -> Preparation:
    return prepare(tiny_options(tmp_path_factory.mktemp("data"), tiny_bert))


def _learn(
    ready: Preparation, folder: Path, callbacks: Sequence[Callback] = (), **settings: Any
) -> tuple[MaskedModel, History]:
    loop = ready.options.replaced(**settings)
    model = MaskedModel.create(ready.base, ready.spec, ready.options, seed=loop.seed)
    with RunFolder.open(folder, {}) as run:
        data = (ready.encoded.train, ready.encoded.dev)
        trainer = Trainer(model, ready.codec, data, loop, run, callbacks, metric=ready.metric)
        return model, trainer.train()


def _same(one: MaskedModel, other: MaskedModel) -> bool:
    a, b = one.learned_state(), other.learned_state()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_never_touches_the_base(ready: Preparation, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in ready.base.encoder.state_dict().items()}
    model, state = _learn(ready, tmp_path, epochs=8, patience=8, lr=2e-2, seed=5)

    records = state.epochs
    assert [record.number for record in records] == list(range(1, 9))
    assert records[-1].loss < records[0].loss
    assert max(record.metrics["accuracy"] for record in records) >= 0.75
    assert model.flip_rate() > 0.0
    after = ready.base.encoder.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in ready.base.encoder.parameters())


def test_the_optimizer_is_the_papers(ready: Preparation, tmp_path: Path) -> None:
    watch = Watch()
    model, _ = _learn(ready, tmp_path, [watch], epochs=2)
    group = watch.optimizer.param_groups[0]
    assert type(watch.optimizer) is torch.optim.Adam
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0.0)
    assert watch.rates == {ready.options.lr}
    assert watch.training
    assert [id(p) for p in group["params"]] == [id(p) for p in model.trainable().values()]


def test_the_same_seed_learns_the_same_and_another_does_not(ready: Preparation, tmp_path: Path) -> None:
    one, _ = _learn(ready, tmp_path / "one", epochs=1)
    two, _ = _learn(ready, tmp_path / "two", epochs=1)
    other, _ = _learn(ready, tmp_path / "other", epochs=1, seed=1)
    assert _same(one, two)
    assert not _same(one, other)


@pytest.mark.parametrize("step", [3, 6, 8, 14, 18])
def test_a_killed_run_ends_as_if_nothing_had_happened(ready: Preparation, tmp_path: Path, step: int) -> None:
    undisturbed, expected = _learn(ready, tmp_path / "whole")
    with pytest.raises(Killed):
        _learn(ready, tmp_path / "killed", [KillAtStep(step)])
    torch.rand(7)  # a new process would not find the random state either
    resumed, state = _learn(ready, tmp_path / "killed")
    assert _same(undisturbed, resumed)
    assert state.epochs == expected.epochs


def test_a_killed_run_of_grouped_bf16_batches_ends_the_same_too(ready: Preparation, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"group_by_length": True, "precision": "bf16"}
    undisturbed, expected = _learn(ready, tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        _learn(ready, tmp_path / "killed", [KillAtStep(8)], **settings)
    resumed, state = _learn(ready, tmp_path / "killed", **settings)
    assert _same(undisturbed, resumed)
    assert state.epochs == expected.epochs


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 8},
        {"batch_size": 4, "accumulate": 2},
        {"average": 0.9, "final_sparsity": 0.3, "group_by_length": True},
    ],
)
def test_a_run_goes_on_from_within_an_epoch(
    ready: Preparation, tmp_path: Path, settings: dict[str, Any]
) -> None:
    plain, _ = _learn(ready, tmp_path / "plain", **settings)
    undisturbed, expected = _learn(ready, tmp_path / "whole", save_steps=2, **settings)
    with pytest.raises(Killed):
        _learn(ready, tmp_path / "killed", [KillAtStep(9)], save_steps=2, **settings)
    assert (tmp_path / "killed" / "checkpoint-8" / "complete").is_file()
    watch = Watch()
    resumed, state = _learn(ready, tmp_path / "killed", [watch], save_steps=2, **settings)
    assert watch.steps == list(range(9, 19))
    assert _same(undisturbed, resumed)
    assert _same(undisturbed, plain)
    assert state.epochs == expected.epochs


@pytest.mark.parametrize("kind", list(ROWS))
@pytest.mark.parametrize("group_by_length", [False, True])
def test_accumulated_batches_learn_what_one_large_batch_does(
    tmp_path: Path, tiny_bert: str, kind: TaskKind, group_by_length: bool
) -> None:
    base = without_dropout(tiny_bert, tmp_path / "base")
    ready = prepare(tiny_options(tmp_path, base, kind, lr=1e-3, group_by_length=group_by_length, epochs=2))
    large, expected = _learn(ready, tmp_path / "large", batch_size=10)
    small, state = _learn(ready, tmp_path / "small", batch_size=5, accumulate=2)
    assert state.step == expected.step == 10
    assert_learned_alike(kind, small.learned_state(), large.learned_state())
    losses = [record.loss for record in expected.epochs]
    assert [record.loss for record in state.epochs] == pytest.approx(losses, abs=1e-5)


def test_bf16_multiplies_in_bf16_and_learns_in_fp32(ready: Preparation, tmp_path: Path) -> None:
    exact, _ = _learn(ready, tmp_path / "fp32", epochs=1)
    model, _ = _learn(ready, tmp_path / "bf16", epochs=1, precision="bf16")
    assert all(p.dtype == torch.float32 for p in model.trainable().values())
    assert not _same(exact, model)
    assert model.base.encoder.dtype == torch.float32


def test_grouped_batches_hold_every_example_once_an_epoch_in_another_order(
    ready: Preparation, tmp_path: Path
) -> None:
    loop = ready.options.replaced(group_by_length=True, batch_size=4)
    model = MaskedModel.create(ready.base, ready.spec, ready.options, seed=0)
    with RunFolder.open(tmp_path, {}) as run:
        data = (ready.encoded.train, ready.encoded.dev)
        trainer = Trainer(model, ready.codec, data, loop, run, metric=ready.metric)
    orders = [
        [batch.inputs["input_ids"].tolist() for batches in trainer.steps(epoch) for batch in batches]
        for epoch in (0, 1, 0)
    ]
    assert orders[0] == orders[2] != orders[1]
    tokens = sum(item.features.tokens for item in ready.encoded.train)
    padded = sum(len(batch) * len(batch[0]) for batch in orders[0])
    assert sum(map(len, orders[0])) == len(ready.encoded.train)
    assert tokens <= padded < 1.1 * tokens


@pytest.mark.parametrize(
    "settings", [{"average": 0.9}, {"final_sparsity": 0.3}, {"average": 0.9, "final_sparsity": 0.3}]
)
def test_a_killed_run_with_an_average_or_a_target_ends_the_same_too(
    ready: Preparation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr("training.loop.sparsity_schedule.MOVE_EVERY_STEPS", 4)
    undisturbed, expected = _learn(ready, tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        _learn(ready, tmp_path / "killed", [KillAtStep(15)], **settings)
    resumed, state = _learn(ready, tmp_path / "killed", **settings)
    assert _same(undisturbed, resumed)
    assert state.epochs == expected.epochs


def test_an_average_is_evaluated_and_kept_while_learning_goes_on_without_it(
    ready: Preparation, tmp_path: Path
) -> None:
    plain_steps, steps = KeepScores(), KeepScores()
    _learn(ready, tmp_path / "plain", [plain_steps])
    model, state = _learn(ready, tmp_path / "averaged", [steps], average=0.9)
    assert all(torch.equal(a, b) for a, b in zip(plain_steps.scores, steps.scores, strict=True))

    fresh = MaskedModel.create(ready.base, ready.spec, ready.options, seed=ready.options.seed)
    average = fresh.learned_state()[KeepScores.LAYER]
    for scores in steps.scores[: state.best_step]:
        average = 0.9 * average + 0.1 * scores
    torch.testing.assert_close(model.learned_state()[KeepScores.LAYER], average)
    best = state.epochs[state.best_epoch - 1]
    assert (model.sparsity(), model.flip_rate()) == (best.zeros, best.flipped)


def test_only_epochs_with_the_final_share_of_zeros_can_be_the_best(
    ready: Preparation, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"epochs": 9, "lr": 1e-12, "patience": 2, "final_sparsity": 0.5}
    model, state = _learn(ready, tmp_path, **settings)
    records = state.epochs
    assert state.best_epoch == 5
    assert len(records) == 7  # two without gain, counted from there
    assert [record.zeros for record in records[4:]] == [pytest.approx(0.5, abs=1e-4)] * 3
    assert records[3].zeros < 0.4999
    assert model.sparsity() == records[4].zeros


@pytest.mark.parametrize("epoch", [1, 2])
def test_the_epoch_that_is_asked_for_is_kept_whichever_is_best(
    ready: Preparation, tmp_path: Path, epoch: int
) -> None:
    steps = KeepScores()
    _, whole = _learn(ready, tmp_path / "whole", [steps])
    model, state = _learn(ready, tmp_path / "kept", keep_epoch=epoch, patience=1)
    assert (state.best_epoch, state.epochs) == (epoch, whole.epochs[:epoch])
    kept = steps.scores[epoch * whole.steps_per_epoch - 1]
    assert torch.equal(model.learned_state()[KeepScores.LAYER], kept)


def test_a_run_killed_after_its_last_epoch_learns_no_further(ready: Preparation, tmp_path: Path) -> None:
    done, expected = _learn(ready, tmp_path)
    again, state = _learn(ready, tmp_path, [KillAtStep(expected.step + 1)])
    assert _same(done, again)
    assert state.epochs == expected.epochs


def test_a_run_that_stopped_early_stays_stopped(ready: Preparation, tmp_path: Path) -> None:
    _, state = _learn(ready, tmp_path, epochs=9, lr=1e-12, patience=2)
    assert len(state.epochs) == 3
    assert state.best_epoch == 1
    _, again = _learn(ready, tmp_path, [KillAtStep(state.step + 1)], epochs=9, lr=1e-12, patience=2)
    assert again.epochs == state.epochs


def test_the_best_epoch_is_what_is_left_in_the_model(ready: Preparation, tmp_path: Path) -> None:
    model, state = _learn(ready, tmp_path, epochs=6, patience=6, lr=3e-2)
    records = state.epochs
    best = records[state.best_epoch - 1]
    assert best.metrics["accuracy"] == max(record.metrics["accuracy"] for record in records)
    assert (model.sparsity(), model.flip_rate()) == (best.zeros, best.flipped)


def test_checkpoints_hold_what_is_learned_and_no_base(ready: Preparation, tmp_path: Path) -> None:
    model, state = _learn(ready, tmp_path)
    folder = tmp_path / f"checkpoint-{state.step}"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *(LEARNED_FILE, "optimizer.pt", "history.json", "complete"),
    }
    assert load_file(folder / LEARNED_FILE).keys() == model.trainable().keys()


def test_a_checkpoint_of_another_version_is_refused(ready: Preparation, tmp_path: Path) -> None:
    _, state = _learn(ready, tmp_path, epochs=1)
    (tmp_path / f"checkpoint-{state.step}" / "history.json").rename(tmp_path / "trainer_state.json")
    with pytest.raises(RunMismatchError, match=r"another version of this program.*--fresh"):
        _learn(ready, tmp_path, epochs=1)


def test_a_loss_that_is_no_number_ends_the_run(
    ready: Preparation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(kind: TrainingKind, logits: torch.Tensor, *_: object) -> torch.Tensor:
        return logits.sum() * float("nan")

    monkeypatch.setattr(TrainingKind, "loss", diverge)
    with pytest.raises(DivergedError, match="try a lower learning rate"):
        _learn(ready, tmp_path)


def test_processes_that_see_other_checkpoints_are_refused(
    ready: Preparation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.loop.trainer.gather_shares", lambda own: [*own, 6])
    with pytest.raises(RunFolderError, match="all processes must see the same run folder"):
        _learn(ready, tmp_path)


@pytest.mark.parametrize("error", [OSError, SafetensorError])
def test_a_checkpoint_that_cannot_be_written_is_told(
    ready: Preparation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def full(*_: object) -> None:
        raise error(28, "No space left on device")

    monkeypatch.setattr("training.loop.checkpoint.save_file", full)
    with pytest.raises(RunFolderError, match=r"can't be written.*No space left"):
        _learn(ready, tmp_path)
