"""Finetuning of one encoder on several tasks at once, so that it may serve as the base of masks of others."""

import logging
import random
from collections.abc import Mapping
from pathlib import Path

import torch

from masking import Base, FinetunedModel, load_base
from masking.checkpoints import export_tensors
from training.data.features import make_batch
from training.kinds import TRAINING_KINDS
from training.loop.optimizer import adam
from training.loop.order import plan_epoch
from training.runs.preparation import Preparation

logger = logging.getLogger(__name__)


def finetune_together(tasks: Mapping[str, Preparation], epochs: int, folder: Path) -> Base:
    """Return a base that was finetuned on several tasks, each step on a batch of one of them.

    Args:
        tasks: By name, on one base and with the same kind of pooler; at least one. Rate and seed are those of
            the first.
        epochs: Passes over the rows of all.
        folder: Where the base is kept; what is there is taken as it is.
    """
    if not folder.is_dir():
        logger.info(f"finetune one encoder on {', '.join(tasks)}")
        name, ready = next(iter(tasks.items()))
        model = _learn(tasks, epochs)[name]
        temporary = folder.with_name(f"{folder.name}.part")
        export_tensors(name, ready.spec, model.activation, model.tensors, ready.base, temporary)
        temporary.rename(folder)
    device = next(iter(tasks.values())).base.device
    return load_base(str(folder), device=str(device))


def _learn(tasks: Mapping[str, Preparation], epochs: int) -> dict[str, FinetunedModel]:
    """Finetune; return the models, of which encoder and pooler are one."""
    options = next(iter(tasks.values())).options
    models = {
        name: FinetunedModel.create(ready.base, ready.spec, seed=options.seed)
        for name, ready in tasks.items()
    }
    first = next(iter(models.values()))
    for model in models.values():
        model.encoder, model.pooler = first.encoder, first.pooler
        model.train()
    optimizer = adam({p: None for model in models.values() for p in model.parameters()}, options.lr)
    torch.manual_seed(options.seed)
    for epoch in range(epochs):
        for name, indices in _order(tasks, epoch):
            ready, model = tasks[name], models[name]
            examples = [ready.encoded.train[index] for index in indices]
            batch = make_batch(examples, ready.spec.kind, ready.base.tokenizer).to(ready.base.device)
            kind = TRAINING_KINDS[ready.spec.kind]
            kind.loss(model(batch.inputs), batch.targets, batch.counts, batch.total).backward()
            optimizer.step()
            optimizer.zero_grad()
        logger.info(f"epoch {epoch + 1} of {epochs}")
    return models


def _order(tasks: Mapping[str, Preparation], epoch: int) -> list[tuple[str, list[int]]]:
    """Shuffle an epoch's batches of all tasks."""
    batches = []
    for name, ready in tasks.items():
        lengths = [item.features.longest for item in ready.encoded.train]
        batches += [(name, batch) for step in plan_epoch(lengths, ready.options, epoch) for batch in step]
    random.Random(epoch).shuffle(batches)
    return batches
