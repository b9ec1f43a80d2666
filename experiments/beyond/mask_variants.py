"""Variants of a masked model: other layers masked, another gradient, or more that learns.

A variant is at most two functions: `change` returns another base to mask, `extend` changes a fresh model and
returns what else learns. Nothing else of learning knows of variants.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from experiments.errors import ExperimentError
from masking import Base, MaskedModel, MaskScores, MaskSettings, TaskSpec
from masking.heads import CLASSIFIER, POOLER

DROPPED_GRADIENTS = 0.5
"""Share of the scores whose gradient a step leaves out."""

Change = Callable[[Base], Base]
Extend = Callable[[MaskedModel], Mapping[str, nn.Parameter]]
"""Changes a fresh model; returns what else learns, by names that the model doesn't use."""


def _same_base(base: Base) -> Base:
    return base


def _nothing_else(_: MaskedModel) -> Mapping[str, nn.Parameter]:
    return {}


@dataclass(frozen=True)
class Variant:
    """One way to learn a better mask.

    Attributes:
        name: What differs from the baseline.
        kernel: What serving it would cost, in a few words.
        settings: Fields of `LearnOptions`.
        change: Makes the base that is masked.
        extend: Lets more of the model learn.
    """

    name: str
    kernel: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    change: Change = _same_base
    extend: Extend = _nothing_else


class ExtendedModel(MaskedModel):
    """A masked model of which more learns than scores and head.

    Attributes:
        extra: What else learns, by name.
    """

    def __init__(self, base: Base, spec: TaskSpec, settings: MaskSettings, seed: int, extend: Extend) -> None:
        """Make a masked model as `MaskedModel.create` does, then extend it."""
        super().__init__(base, spec, settings, seed)
        self.extra = dict(extend(self))

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what the optimizer may change: what a masked model has, and the extra."""
        return super().trainable() | self.extra

    @property
    def mask_bytes(self) -> int:
        """Bytes of the packed masks, each row from a byte of its own."""
        shapes = [mask.scores.shape for mask in self.masks.values()]
        return sum(rows * -(-columns // 8) for rows, columns in shapes)

    @property
    def extra_bytes(self) -> int:
        """Bytes of the extra."""
        return sum(p.numel() * p.element_size() for p in self.extra.values())


class RowScale(nn.Module):
    """Parametrization of a masked weight: each row times a number of its own, 1 before learning."""

    def __init__(self, mask: MaskScores) -> None:
        """Take the mask, for its rows and its device."""
        super().__init__()
        self.scale = nn.Parameter(torch.ones_like(mask.scores[:, :1]))

    def forward(self, masked: Tensor) -> Tensor:
        """Return the scaled weight, float32 [rows, columns]."""
        return masked * self.scale


class SoftZero(nn.Module):
    """Parametrization of one weight: W becomes W * (M + f (1 - M)), f a number that is 0 before learning."""

    def __init__(self, mask: MaskScores) -> None:
        """Take the mask, in whose place it stands."""
        super().__init__()
        self.mask = mask
        self.fraction = nn.Parameter(mask.scores.new_zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight, float32 [rows, columns]."""
        masked: Tensor = self.mask(weight)
        return masked + self.fraction * (weight - masked)


def scale_rows(model: MaskedModel) -> Mapping[str, nn.Parameter]:
    """Let each output of a masked layer learn a scale."""
    learned = {}
    for name, linear in _masked_linears(model).items():
        scale = RowScale(model.masks[name])
        parametrize.register_parametrization(linear, "weight", scale)
        learned[f"{name}.row_scale"] = scale.scale
    return learned


def soften_zeros(model: MaskedModel) -> Mapping[str, nn.Parameter]:
    """Let each masked layer learn the fraction that is kept of the weights it drops."""
    learned = {}
    for name, linear in _masked_linears(model).items():
        soft = SoftZero(model.masks[name])
        parametrizations: Any = linear.parametrizations
        parametrizations.weight[0] = soft
        learned[f"{name}.fraction"] = soft.fraction
    return learned


def train_biases_and_norms(model: MaskedModel) -> Mapping[str, nn.Parameter]:
    """Let the masked blocks learn copies of their biases and LayerNorms."""
    learned = {}
    for block in model.blocks:
        path = f"{model.base.blocks.path}.{block}"
        for name, module in model.encoder.get_submodule(path).named_modules():
            for kind in _dense_parts(module):
                own = nn.Parameter(getattr(module, kind).detach().clone())
                setattr(module, kind, own)
                learned[f"{path}.{name}.{kind}"] = own
    return learned


def drop_gradients(model: MaskedModel) -> Mapping[str, nn.Parameter]:
    """Let each step learn from the gradients of some scores, drawn anew, scaled to the same expectation."""
    for mask in model.masks.values():
        mask.scores.register_hook(lambda gradient: functional.dropout(gradient, DROPPED_GRADIENTS))
    return {}


def without_query_and_key(base: Base) -> Base:
    """Return the base with masks only for W_V, W_AO and the feed-forward part.

    Raises:
        ExperimentError: It isn't known which layers these are.
    """
    blocks = base.blocks
    if blocks.known is None:
        raise ExperimentError(f"{base.info.architecture}: its queries and keys are not known by name")
    left_out = (f".{blocks.known.query}", f".{blocks.known.key}")
    layers = tuple(tuple(name for name in names if not name.endswith(left_out)) for names in blocks.layers)
    return replace(base, blocks=replace(blocks, layers=layers))


def _masked_linears(model: MaskedModel) -> dict[str, nn.Module]:
    head = {POOLER: model.pooler, CLASSIFIER: model.classifier}
    return {name: head.get(name) or model.encoder.get_submodule(name) for name in model.masks}


def _dense_parts(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, nn.LayerNorm):
        return ("weight", "bias")
    return ("bias",) if isinstance(module, nn.Linear) else ()
