"""Copies: finetuned classifiers of transformers, whose weights differ a little from those of a tiny base."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, PreTrainedModel

from mask_store import MaskBundle, TaskKind
from masking import Base, TaskSpec
from masking.checkpoints import CopySigns, load_copy
from masking.checkpoints.heads import CLASSES

LABELS = ("down", "level", "up")


def finetuned(
    base_folder: str, folder: Path, kind: TaskKind, *, step: float = 0.02, seed: int = 0, **config: Any
) -> str:
    """Saves a copy of a base with a head of its own, as plain transformers would; returns its folder.

    Args:
        base_folder: The base.
        folder: Where to.
        kind: Kind of task.
        step: Standard deviation of the change of every number.
        seed: Of the changes and of the head.
        config: Further fields of the configuration.
    """
    torch.manual_seed(seed)
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {n: i for i, n in enumerate(LABELS)},
    }
    cls = getattr(transformers, f"AutoModel{CLASSES[kind]}")
    model: PreTrainedModel = cls.from_pretrained(
        base_folder, **({} if kind == "multiple-choice" else labels), **config
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embeddings." not in name or "LayerNorm" in name:
                parameter.add_(torch.randn_like(parameter) * step)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base_folder).save_pretrained(folder)
    return str(folder)


def sign_bundle(base: Base, model: str, *, task: str = "copied", factor: float = 1.0) -> MaskBundle:
    """The bundle of a copy's signs."""
    copied = load_copy(model, base)
    signs = CopySigns(base, copied)
    spec = TaskSpec(copied.kind, copied.labels, max_length=32, word_piece="first")
    scales = {name: factor * mean for name, mean in signs.mean_scales.items()}
    return signs.bundle(task, spec, scales, settings={"factor": factor}, metrics={})
