"""Fitting: the scales of a copy's signs, chosen so that the task's answers are the copy's on some inputs.

Each row's scale is multiplied by a factor of its own, which learns by gradient: the divergence of the task's
probabilities from the copy's is the loss (of values the squared error, of embeddings 1 less the cosine), so
inputs need no answers. Nothing else learns.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from mask_store import WITHOUT_CLASSES, TaskKind
from masking.checkpoints.signs import CopySigns
from masking.heads import POOLER
from masking.tasks import Features, collate

_RATE = 0.02
_PASSES = 4
_INPUTS = 16


class _Signs(nn.Module):
    """Parametrization of one weight: W + a exp(t) (2b - 1), t learned for each row."""

    def __init__(self, signs: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("signed", signs * scales[:, None], persistent=False)
        self.factors = nn.Parameter(torch.zeros(len(scales), 1))

    def forward(self, weight: Tensor) -> Tensor:
        signed: Tensor = self.signed  # type: ignore[assignment]
        return weight + signed * self.factors.exp()


def fit_scales(
    signs: CopySigns, scales: Mapping[str, Tensor], features: Sequence[Features]
) -> dict[str, Tensor]:
    """Fit scales to a copy's answers.

    Args:
        signs: The copy's signs.
        scales: By layer where to start, float32 [rows].
        features: Inputs, encoded for the task; some hundred are enough.

    Returns:
        By layer, float32 [rows].
    """
    model, learned = _task_model(signs, scales)
    optimizer = torch.optim.Adam([one.factors for one in learned.values()], lr=_RATE)
    generator = torch.Generator().manual_seed(0)
    for _ in range(_PASSES):
        order = torch.randperm(len(features), generator=generator).tolist()
        for start in range(0, len(order), _INPUTS):
            batch = [features[place] for place in order[start : start + _INPUTS]]
            with torch.no_grad():
                wanted = _logits(signs, signs.copy.model, batch)
            found = _logits(signs, model, batch)
            optimizer.zero_grad()
            _loss(signs.copy.kind, found, wanted).backward()
            optimizer.step()
    return {name: scales[name] * one.factors.detach().exp().flatten() for name, one in learned.items()}


def _task_model(signs: CopySigns, scales: Mapping[str, Tensor]) -> tuple[PreTrainedModel, dict[str, _Signs]]:
    """Make the copy's model with the base's embeddings, but for rows that are kept, and with signs."""
    base, copied = signs.base, signs.copy
    model = copy.deepcopy(copied.model)
    own = dict(base.encoder.named_parameters())
    linears = {f"{name}.weight" for name in signs.deltas}
    with torch.no_grad():
        for name, tensor in model.base_model.named_parameters():
            if tensor.ndim > 1 and name in own and name not in linears and name not in signs.rows:
                tensor.copy_(own[name])
    learned = {}
    for name, delta in signs.deltas.items():
        path = copied.head.pooler if name == POOLER else f"{copied.encoder_path}{name}"
        layer = model.get_submodule(str(path))
        assert isinstance(layer, nn.Linear)
        weight = base.pooler.weight if name == POOLER and base.pooler is not None else own[f"{name}.weight"]
        with torch.no_grad():
            layer.weight.copy_(weight)
        learned[name] = _Signs(torch.where(delta >= 0, 1.0, -1.0), scales[name])
        parametrize.register_parametrization(layer, "weight", learned[name])
    return model, learned


def _loss(kind: TaskKind, found: Tensor, wanted: Tensor) -> Tensor:
    """Compute how far the task is from the copy, from the logits of both: a scalar."""
    if kind == "regression":
        return functional.mse_loss(found, wanted)
    if kind == "embedding":
        return 1 - functional.cosine_similarity(found, wanted).mean()
    if kind in WITHOUT_CLASSES:  # a sigmoid of each logit: softmax over it and 0
        found, wanted = (torch.stack([one, torch.zeros_like(one)], -1) for one in (found, wanted))
    found, wanted = (functional.log_softmax(one, -1) for one in (found, wanted))
    return functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


def _logits(signs: CopySigns, model: PreTrainedModel, batch: Sequence[Features]) -> Tensor:
    """Compute the logits of each answer: [answers, classes].

    Of token classification every token is an answer; choices are filled up to the most of an input.
    """
    rows = [row for item in batch for row in item.rows]
    given = collate(rows, signs.base.tokenizer, model.device)
    logits = signs.copy.logits(given, model)
    if signs.copy.kind == "multiple-choice":
        parts = logits.flatten().split([len(item.rows) for item in batch])
        return nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=-1e4)
    return logits[given["attention_mask"].bool()] if signs.copy.kind == "token-classification" else logits
