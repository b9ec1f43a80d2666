from dataclasses import replace
from pathlib import Path

import torch

from experiments.common.runs import METHODS, Run
from experiments.interpolation.ends import Ends, choose
from tests.support.experiments import full_context
from tests.training.runs.test_results import result
from training.loop.history import EpochRecord


def _run(seed: int, *values: float) -> Run:
    epochs = tuple(
        EpochRecord(n, 0.0, {"accuracy": value}, 0.0, 0.0) for n, value in enumerate(values, start=1)
    )
    found = replace(result(0.1, *values, seed=seed), best_epoch=values.index(max(values)) + 1, epochs=epochs)
    return Run("sst2", "masking", found, {}, None, None)  # type: ignore[arg-type]


def test_the_seed_is_best_for_both_and_the_epoch_the_same() -> None:
    finetuned = [_run(1, 0.9, 0.8, 0.7), _run(2, 0.6, 0.9, 0.8, 0.7)]
    masked = [_run(1, 0.5, 0.6, 0.7), _run(2, 0.5, 0.6, 0.9)]
    assert choose(finetuned, masked) == (1, 3)
    assert choose(finetuned[:1], masked[:1]) == (0, 1)


def test_both_models_are_taken_after_the_same_epoch(tmp_path: Path, tiny_bert: str) -> None:
    settings = ("epochs=3", "masking_lr=0.01", "finetuning_lr=0.001")
    context = full_context(tmp_path, tiny_bert, "figure6", settings=settings)
    ends = Ends.of(context, "sst2", (1, 2), base=tiny_bert)
    seed = ends.setting.options.seed
    masked, finetuned = (
        context.run("sst2", method, seed=seed, keep_epoch=ends.epoch).weights() for method in METHODS
    )
    for own, expected in ((ends.finetuned, finetuned), (ends.masked, masked)):
        assert own.keys() == expected.keys() == ends.pretrained.keys()
        assert all(torch.equal(own[name], expected[name]) for name in own)


def test_the_pretrained_model_has_the_classifier_that_both_methods_start_from(
    tmp_path: Path, tiny_bert: str
) -> None:
    rates = ("finetuning_lr=1e-30", "masking_lr=1e-30", "head=trained")
    ends = Ends.of(full_context(tmp_path, tiny_bert, "figure6", settings=rates), "sst2", (1,), base=tiny_bert)
    for learned in (ends.finetuned, ends.masked):
        assert torch.equal(ends.pretrained["classifier.weight"], learned["classifier.weight"])
