"""Structured runs: a plain mask, and masks of fewer units that are learned from it on, each made once."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.beyond.gathered import Shares, gather, present_units, shares_of
from experiments.beyond.units import KINDS, Kind, StructuredModel, effects_of
from experiments.common.context import Context
from experiments.common.once import once
from experiments.common.runs import Run, dense_model, dense_weights
from experiments.common.tasks import sample
from masking import FinetunedModel
from training.cli.progress import ProgressBar
from training.data.features import Batch, make_batch
from training.errors import DivergedError
from training.loop.evaluation import evaluate, predict_logits
from training.runs.preparation import Preparation
from training.runs.results import short_hash
from training.runs.runner import Runner

logger = logging.getLogger(__name__)

EPOCHS = 3
"""Epochs of units, after those of the plain mask; the share is reached after two."""
TEST_ROWS = 1000
_ORDERED_BY = 256  # training rows that the effects of units are measured on
_ROWS = 8  # of them in a batch: the size of an effect is that of few rows
COMPARED = 64
"""Inputs that the gathered model answers too."""


@dataclass(frozen=True)
class Measured:
    """One learned mask, measured.

    Attributes:
        value: The metric, 0 to 1.
        kept: Shares of units that are there, by kind and block.
        difference: Largest difference of a logit between the full masked model and the gathered one.
    """

    value: float
    kept: Shares
    difference: float


def learn_share(context: Context, plain: Run, share: float) -> Run:
    """Return the run of one share, learned now from the plain mask on if it isn't there yet.

    Raises:
        DivergedError: The loss became infinite or not a number.
    """
    setting = plain.setting.varied(final_sparsity=share or None, epochs=EPOCHS)
    identity = {**setting.identity_for("mask"), "units": list(KINDS), "from": short_hash(plain.identity)}

    def start() -> StructuredModel:
        logger.info(f"{plain.task}: {share:.0%} of units dropped, seed {plain.seed}")
        model = StructuredModel.create(setting.base, setting.spec, setting.options, seed=plain.seed)
        _start(context, plain, model)
        return model

    runner = Runner(plain.results, _folder(context, plain) / "unfinished-structure", [ProgressBar()])
    result = runner.run_model(
        setting, identity, start, nbytes=lambda _: plain.task_bytes, keep=StructuredModel.to_masked
    )
    if result.end == "diverged":
        raise DivergedError(f"{plain.task}: {share:.0%} of units dropped, seed {plain.seed}: {result}")
    return Run(plain.task, "masking", result, identity, setting, plain.results)


def _start(context: Context, plain: Run, model: StructuredModel) -> None:
    """Let a model start from a plain mask, with its units in the order of their effects there."""
    model.start(plain.results.weights(plain.identity))

    def measure() -> dict[Kind, list[float]]:
        return {kind: own.tolist() for kind, own in effects_of(model.eval(), _batches(plain.setting)).items()}

    effects = once(_folder(context, plain) / f"{short_hash(plain.identity)}-effects.json", measure)
    model.order({kind: torch.tensor(effects[kind]) for kind in KINDS})


def _batches(setting: Preparation) -> Iterator[Batch]:
    rows = setting.encoded.train[:_ORDERED_BY]
    for first in range(0, len(rows), _ROWS):
        batch = make_batch(rows[first : first + _ROWS], setting.spec.kind, setting.base.tokenizer)
        yield batch.to(setting.base.device)


def _folder(context: Context, run: Run) -> Path:
    return context.runs_dir / run.setting.base.info.name / run.task


def measured(context: Context, run: Run) -> Measured:
    """Measure a run's mask, on the test rows where a share of train is held out, unless that is done."""
    test = context.test(run.task) if context.scale_of(run.task).hold_out else None

    def measure() -> dict[str, Any]:
        setting, model = run.setting, run.model()
        rows = setting.options.batch_size
        examples = sample(test.examples, TEST_ROWS) if test else setting.encoded.dev
        value = evaluate(model, setting.codec, examples, max_rows=rows)[setting.metric] if test else run.value
        both = [
            predict_logits(one, setting.codec, examples[:COMPARED], max_rows=rows)
            for one in (model, gathered_model(run))
        ]
        difference = max(float(abs(one - other).max()) for one, other in zip(*both, strict=True))
        kept = shares_of(present_units(setting.base, run.masks()))
        return asdict(Measured(value, kept, difference))

    rows = {"digest": test.digest, "most": TEST_ROWS} if test else None
    name = f"measured-{short_hash({'run': run.identity, 'rows': rows})}.json"
    return Measured(**once(_folder(context, run) / name, measure))


def gathered_model(run: Run) -> FinetunedModel:
    """Return a run's task as a model of its own, of the units alone that its masks have."""
    model = dense_model(run.setting, dense_weights(run.model()))
    gather(model.encoder, present_units(run.setting.base, run.masks()))
    return model
