"""Task models, which learn a task: encoder and head; and the finetuned one, the paper's baseline."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mask_store import HeadActivation
from masking.architectures import learned_activation
from masking.base import Base
from masking.heads import CLASSIFIER, POOLER, head_logits, pool_tokens, random_linear
from masking.learning.streams import stream
from masking.tasks import MODEL_KINDS, TaskSpec


class TaskModel(nn.Module):
    """Encoder, pooler and classifier of one task, as something that learns.

    Attributes:
        spec: The task.
        base: The pretrained encoder that learning starts from.
        head_activation: What a manifest says of it: None for tanh, and where there is no W_P.
    """

    def __init__(self, base: Base, spec: TaskSpec, encoder: nn.Module, seed: int) -> None:
        """Put a head on `encoder`, if the kind has one: W_P pretrained where the base has it, W_T random."""
        super().__init__()
        self.spec = spec
        self.base = base
        self.encoder = encoder
        kind = MODEL_KINDS[spec.kind]
        self.classifier = None if kind.headless else _make_classifier(base, spec, seed)
        self.head_activation = learned_activation(base.info.architecture, spec.kind)
        own = base.pooler if kind.pooled else None
        pools = kind.pooled or self.head_activation is not None
        self.pooler = _make_pooler(base, own, seed) if pools else None
        self.pooler_is_random = self.pooler is not None and own is None
        self.dropout = nn.Dropout(_dropout_rate(base))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the logits of a collated batch: [rows, labels], [rows, 1] or [rows, tokens, labels].

        Of embeddings they are the embeddings, [rows, hidden], of any length.
        """
        hidden: Tensor = self.encoder(**batch).last_hidden_state
        if self.spec.pooling is not None:
            real = batch["attention_mask"].bool()
            return pool_tokens(hidden[real], real.sum(1), self.spec.pooling)
        assert self.classifier is not None
        return head_logits(
            *(hidden, self.pooler, self.classifier, self.dropout),
            activation=self.activation or "tanh",
            words=not MODEL_KINDS[self.spec.kind].pooled,
        )

    @property
    def activation(self) -> HeadActivation | None:
        """Between W_P and W_T; None where there is no W_P."""
        return None if self.pooler is None else self.head_activation or "tanh"

    def set_bias(self, bias: Sequence[float]) -> None:
        """Set the classifier's bias: a number for each output."""
        assert self.classifier is not None
        with torch.no_grad():
            self.classifier.bias.copy_(torch.tensor(bias))

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what the optimizer may change, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def learned_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs: CPU copies of all that learns, and nothing else."""
        return {name: p.detach().cpu().clone() for name, p in self.trainable().items()}

    def load_learned_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `learned_state` gave.

        Raises:
            ValueError: The names are not those of this model.
        """
        own = self.trainable()
        if own.keys() != state.keys():
            odd = ", ".join(sorted(own.keys() ^ state.keys())[:3])
            raise ValueError(f"the checkpoint belongs to another model; differing entries: {odd}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def sparsity(self) -> float:
        """Return the share of zeros in all masks; 0 where there are none."""
        return 0.0

    def flip_rate(self) -> float:
        """Return the share of bits that differ from the mask before learning; 0 where there are no masks."""
        return 0.0

    @contextmanager
    def cached(self) -> Iterator[None]:
        """Compute each masked weight once inside; for evaluation, when nothing changes."""
        with parametrize.cached():
            yield


class FinetunedModel(TaskModel):
    """Finetuning, the baseline of masking: every weight is copied and learns."""

    @classmethod
    def create(cls, base: Base, spec: TaskSpec, *, seed: int) -> Self:
        """Make a copy of the base with a head, ready to be finetuned.

        Args:
            base: The pretrained encoder; copied, not changed.
            spec: The task.
            seed: Decides the random head.
        """
        model = cls(base, spec, copy.deepcopy(base.encoder), seed)
        model.pooler = copy.deepcopy(model.pooler)
        model.to(base.device).requires_grad_(True)
        return model

    @property
    def tensors(self) -> dict[str, Tensor]:
        """CPU copies of all weights: the encoder's by their names in a base, the head's as in a bundle."""
        return {name: p.detach().cpu().clone() for name, p in self._weights().items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put in all weights, by the names of `tensors`; others are left out.

        Raises:
            KeyError: One is missing.
        """
        with torch.no_grad():
            for name, parameter in self._weights().items():
                parameter.copy_(tensors[name])

    def _weights(self) -> dict[str, nn.Parameter]:
        head = {CLASSIFIER: self.classifier, POOLER: self.pooler}
        parts = [("", self.encoder), *((f"{name}.", one) for name, one in head.items() if one is not None)]
        return {f"{before}{name}": p for before, module in parts for name, p in module.named_parameters()}


def _make_classifier(base: Base, spec: TaskSpec, seed: int) -> nn.Linear:
    """Make W_T, random."""
    outputs = MODEL_KINDS[spec.kind].outputs(spec.labels)
    return random_linear(outputs, base.hidden_size, stream(seed, CLASSIFIER))


def _make_pooler(base: Base, pretrained: nn.Linear | None, seed: int) -> nn.Linear:
    """Make W_P: it shares the tensors of a pretrained one where there is one, and is random otherwise."""
    dense = random_linear(base.hidden_size, base.hidden_size, stream(seed, POOLER))
    if pretrained is not None:
        dense.weight, dense.bias = pretrained.weight, pretrained.bias
    return dense


def _dropout_rate(base: Base) -> float:
    config = base.encoder.config
    for name in ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob"):
        rate = getattr(config, name, None)
        if rate is not None:
            return float(rate)
    return 0.0
