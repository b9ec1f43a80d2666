import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.common.runs import Runs, Scale, dense_model
from experiments.published.facts import Method
from masking import FinetunedModel, MaskedModel
from masking.binarize import keep
from tests.support.experiments import write_tasks
from tests.support.models import tiny_base
from training.loop.callbacks import Callback
from training.loop.evaluation import evaluate
from training.loop.trainer import Trainer
from training.runs.rate_search import Grid

SCALE = Scale(
    name="quick",
    train_rows=16,
    dev_rows=8,
    options={"epochs": 2, "max_length": 32, "blocks": "1-", "batch_size": 8, "device": "cpu"},
    rates={"masking": 5e-3, "finetuning": 1e-3},
)


class Stop(Callback):
    """Ends a run in its second epoch."""

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.history.step == 3:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_bert: str) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), tiny_bert, SCALE, data=data)


def _measure(runs: Runs, task: str, model: Any) -> dict[str, float]:
    setting = runs.setting(task)
    return evaluate(model, setting.codec, setting.encoded.dev, max_rows=8)


@pytest.mark.parametrize("task", ["trec", "ner", "codah"])
@pytest.mark.parametrize("method", ["masking", "finetuning"])
def test_a_kept_run_measures_what_it_did_as_model_and_as_dense_weights(
    runs: Runs, task: str, method: Method
) -> None:
    run = runs.get(task, method)
    assert run.rows == (16, 8)
    assert run.value == run.metrics[run.metric]
    assert _measure(runs, task, run.model()) == run.metrics
    assert _measure(runs, task, dense_model(run.setting, run.weights())) == run.metrics


def test_a_run_is_learned_once_and_said_before(
    tmp_path: Path, data: Path, tiny_bert: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="experiments")
    first = Runs(tmp_path, tiny_bert, SCALE, data=data).get("trec", "masking", seed=3)
    again = Runs(tmp_path, tiny_bert, SCALE, data=data).get("trec", "masking", seed=3)
    assert caplog.messages == ["trec: masking, seed 3"]
    assert first.identity == again.identity
    assert first.epochs == again.epochs


def test_what_differs_is_another_run_but_masks_settings_are_nothing_to_finetuning(runs: Runs) -> None:
    changes: list[dict[str, Any]] = [{}, {"blocks": "0-"}, {"lr": 1e-4}]
    learned = [runs.get("trec", "masking", **changed).identity for changed in changes]
    assert all(learned.count(identity) == 1 for identity in learned)
    assert runs.get("trec", "finetuning", blocks="0-").identity == runs.get("trec", "finetuning").identity


def test_a_stopped_run_goes_on_to_the_same_mask(tmp_path: Path, data: Path, tiny_bert: str) -> None:
    whole = Runs(tmp_path / "whole", tiny_bert, SCALE, data=data).get("trec", "masking")
    with pytest.raises(KeyboardInterrupt):
        Runs(tmp_path / "cut", tiny_bert, SCALE, data=data, callbacks=lambda: [Stop()]).get("trec", "masking")
    resumed = Runs(tmp_path / "cut", tiny_bert, SCALE, data=data).get("trec", "masking")
    masks = resumed.masks()
    assert all(torch.equal(mask, masks[name]) for name, mask in whole.masks().items())
    assert resumed.value == whole.value


def test_masks_are_those_of_the_scores_and_differ_from_the_first(runs: Runs) -> None:
    run = runs.get("trec", "masking")
    model = run.model()
    assert isinstance(model, MaskedModel)
    masks, initial = run.masks(), run.initial_masks()
    assert list(masks) == list(initial) == list(model.layer_names)
    for name, mask in masks.items():
        assert torch.equal(mask, keep(model.masks[name].scores.detach(), model.settings.threshold))
    assert any(not torch.equal(mask, initial[name]) for name, mask in masks.items())
    assert run.nbytes == sum(mask.shape[0] * -(-mask.shape[1] // 8) for mask in masks.values())
    head = sum(tensor.nbytes for name, tensor in run.weights().items() if name.startswith("classifier."))
    assert run.task_bytes == run.nbytes + head


def test_a_finetuned_run_has_no_masks_and_takes_all_its_bytes(runs: Runs) -> None:
    run = runs.get("trec", "finetuning")
    assert isinstance(run.model(), FinetunedModel)
    assert run.masks() == {}
    assert run.task_bytes == run.nbytes == sum(weight.nbytes for weight in run.weights().values())


def test_the_pretrained_model_has_the_base_s_weights(runs: Runs) -> None:
    setting = runs.setting("trec")
    weights = dense_model(setting).learned_state()
    base = setting.base.encoder.state_dict()
    own = {name: tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    assert all(torch.equal(tensor, base[name.removeprefix("encoder.")]) for name, tensor in own.items())
    assert set(weights) == set(runs.get("trec", "masking").weights())


def test_options_of_the_scale_reach_the_run(runs: Runs) -> None:
    options = runs.get("trec", "finetuning").setting.options
    assert (options.epochs, options.lr, options.max_length) == (2, 1e-3, 32)


def _searching(folder: Path, base: str, data: Path, made: list[tuple[float, int]]) -> Runs:
    class Counted(Callback):
        def on_train_begin(self, trainer: Trainer) -> None:
            made.append((trainer.options.lr, trainer.options.seed))

    options = {**SCALE.options, "epochs": 1}
    scale = replace(SCALE, rates={"masking": "paper", "finetuning": "search"}, options=options)
    return Runs(folder, base, scale, data=data, callbacks=lambda: [Counted()])


def test_a_rate_is_searched_once_and_no_rate_twice(tmp_path: Path, data: Path, tiny_bert: str) -> None:
    made: list[tuple[float, int]] = []
    runs = _searching(tmp_path, tiny_bert, data, made)
    rate, origin = runs.rate("trec", "masking")
    assert origin == "searched"
    tried = [lr for lr, _ in made]
    assert sorted(tried)[0] <= 1e-5
    assert len(tried) == len(set(tried))
    assert min(tried) < rate < max(tried) or len(tried) == Grid.paper().max_runs
    assert {seed for _, seed in made} == {1}
    made.clear()
    assert _searching(tmp_path, tiny_bert, data, made).rate("trec", "masking") == (rate, "searched")
    assert made == []
    found = runs.search("trec", "masking", (1, 2))
    assert {lr for lr, seed in made if seed == 2} >= {trial.lr for trial in found.trials}
    assert not {lr for lr, seed in made if seed == 1} & set(tried)
    assert {len(trial.runs) for trial in found.trials} == {2}


def test_the_papers_rate_is_taken_where_it_has_one(tmp_path: Path, data: Path) -> None:
    base = tiny_base(tmp_path / "roberta-base")
    made: list[tuple[float, int]] = []
    runs = _searching(tmp_path / "runs", base, data, made)
    assert runs.rate("trec", "masking") == (5e-4, "Table 4")
    assert made == []
    assert runs.get("trec", "masking", seed=2).result.lr == 5e-4
    assert made == [(5e-4, 2)]


def test_a_run_without_weights_is_made_again_for_them(tmp_path: Path, data: Path, tiny_bert: str) -> None:
    runs = Runs(tmp_path, tiny_bert, SCALE, data=data)
    value = runs.get("trec", "masking", weights=False).value
    assert not list(tmp_path.rglob("*.safetensors"))
    assert runs.get("trec", "masking", weights=False).value == value
    run = runs.get("trec", "masking")
    assert run.value == value
    assert _measure(runs, "trec", run.model()) == run.metrics


@pytest.mark.parametrize("method", ["masking", "finetuning"])
def test_a_run_can_end_with_an_epoch_that_is_asked_for(runs: Runs, method: Method) -> None:
    best = runs.get("trec", method)
    kept = runs.get("trec", method, keep_epoch=1)
    assert kept.epochs == best.epochs[:1]
    assert _measure(runs, "trec", kept.model()) == best.epochs[0].metrics
