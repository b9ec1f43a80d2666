"""Dense torch peers that ours is measured against, all with the same head.

  dense     one unmasked model on the whole batch: the bound that no way of telling tasks apart is expected
            to beat
  autocast  the same with weights in fp32, computed in bf16 where torch sees fit
  copies    a finetuned copy per task, each on its rows; what tasks do not change is shared
  naive     one forward for all rows; per layer and task the bits are expanded and W * M is multiplied

All but `autocast` compute in the dtype of the workload's base. Candidates are checked against
`dense` and `naive` on a base in float64. Adapters are in `benchmarks.peers.adapters`, other engines in
`benchmarks.peers.exported`.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.random_models import masked_linears
from lab.random_tasks import RandomTask, Workload
from masking import Base
from masking.binarize import apply_mask
from masking.heads import CLASSIFIER, POOLER, head_logits
from masking.kernels import masked_linear

Apply = Callable[[str, Tensor, Tensor, Tensor | None], Tensor]
Run = Callable[[], Tensor]


@dataclass(frozen=True)
class HeadedEncoder:
    """An encoder with the head of one task.

    Attributes:
        encoder: From token ids to hidden states.
        pooler: Weight and bias of W_P.
        classifier: Weight and bias of W_T.
    """

    encoder: nn.Module
    pooler: tuple[Tensor, Tensor]
    classifier: tuple[Tensor, Tensor]

    @classmethod
    def unmasked(cls, base: Base, task: RandomTask, encoder: nn.Module) -> "HeadedEncoder":
        """Return `encoder` with a task's head as it is before masking, in the dtype of `base`."""
        return cls(encoder, *(_head_linear(base, task, name) for name in (POOLER, CLASSIFIER)))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits [rows, classes] of hidden states [rows, tokens, width]."""
        return head_logits(
            hidden,
            lambda inputs: F.linear(inputs, *self.pooler),
            lambda inputs: F.linear(inputs, *self.classifier),
            nn.Identity(),
        )

    def __call__(self, ids: Tensor) -> Tensor:
        """Return logits [rows, classes] of token ids [rows, tokens]."""
        return self.logits(self.encoder(input_ids=ids).last_hidden_state)


class _AppliedLinear(nn.Module):
    """A linear layer computed by a function of its name, inputs [tokens, columns], weight and bias."""

    def __init__(self, name: str, linear: nn.Linear, apply: Apply) -> None:
        super().__init__()
        self.name, self.weight, self.bias = name, linear.weight, linear.bias
        self._apply_to = apply

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self._apply_to(self.name, inputs.flatten(0, -2), self.weight, self.bias)
        return outputs.reshape(*inputs.shape[:-1], -1)


def _routed(base: Base, linears: Mapping[str, nn.Linear], apply: Apply) -> nn.Module:
    """Return an encoder some of whose layers are computed by `apply`; the tensors are shared."""
    encoder = base.share_encoder()
    for name, linear in linears.items():
        encoder.set_submodule(name, _AppliedLinear(name, linear, apply))
    return encoder


def dense(workload: Workload, head: RandomTask) -> Run:
    """Return a run of one unmasked model on all rows, with the head of one task."""
    base = workload.base
    model = HeadedEncoder.unmasked(base, head, base.encoder)
    return lambda: model(workload.ids)


def autocast(workload: Workload, head: RandomTask) -> Run:
    """Return a run of `dense` under torch's autocast to bf16."""
    run = dense(workload, head)

    def cast() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return run()

    return cast


class Copies:
    """A model per task on its rows, the masked weights its own; made once, kept for the next batch."""

    def __init__(self) -> None:
        """Create it without copies."""
        self._made: dict[RandomTask, HeadedEncoder] = {}

    def __call__(self, workload: Workload) -> Run:
        """Return a run of all copies, each on its rows."""
        models = [self._copy(workload.base, task) for task in workload.tasks]
        parts = list(zip(models, workload.row_segments.spans(), strict=True))
        return lambda: torch.cat([model(workload.ids[start:end]) for model, (start, end) in parts])

    def _copy(self, base: Base, task: RandomTask) -> HeadedEncoder:
        if task not in self._made:
            encoder = base.share_encoder()
            for name, linear in masked_linears(base).items():
                folded = nn.Parameter(
                    apply_mask(linear.weight, task.bits[name].expand()), requires_grad=False
                )
                encoder.get_submodule(name).weight = folded
            self._made[task] = _masked_head(base, task, encoder)
        return self._made[task]


def masked_weights(base: Base) -> int:
    """Count the weights of the encoder that a task masks, and a copy does not share."""
    return sum(linear.weight.numel() for linear in masked_linears(base).values())


def naive(workload: Workload) -> Run:
    """Return a run that expands bits per layer and task; unmasked layers run once for all rows."""
    segments, base = workload.token_segments, workload.base

    def apply(name: str, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        masks = [task.bits[name] for task in workload.tasks]
        return masked_linear(inputs, weight, bias, segments, masks, method="fold")

    encoder = _routed(base, masked_linears(base), apply)

    def run() -> Tensor:
        hidden = encoder(input_ids=workload.ids).last_hidden_state
        parts = zip(workload.tasks, workload.row_segments.spans(), strict=True)
        return torch.cat(
            [_masked_head(base, task, encoder).logits(hidden[start:end]) for task, (start, end) in parts]
        )

    return run


def _masked_head(base: Base, task: RandomTask, encoder: nn.Module) -> HeadedEncoder:
    layers = []
    for name in (POOLER, CLASSIFIER):
        weight, bias = _head_linear(base, task, name)
        layers.append((apply_mask(weight, task.bits[name].expand()), bias))
    return HeadedEncoder(encoder, *layers)


def _head_linear(base: Base, task: RandomTask, name: str) -> tuple[Tensor, Tensor]:
    weight, bias = task.head_linear(name, base)
    return weight.to(base.encoder.dtype), bias.to(base.encoder.dtype)


def in_dtype(base: Base, dtype: torch.dtype) -> Base:
    """Return a copy of the base in another dtype."""
    encoder, pooler = copy.deepcopy((base.encoder, base.pooler))
    for module in (encoder, pooler):
        if module is not None:
            nn.Module.to(module, dtype)
    return replace(base, encoder=encoder, pooler=pooler)
