"""Signs of a copy: one bit per weight, the sign of (copy - base), and one scale for each output row.

The task's weight is W + a (2b - 1). Biases, LayerNorms and head are the copy's own; embeddings stay the
base's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version

import torch
from torch import Tensor

from mask_store import (
    HeadTensorInfo,
    JsonScalar,
    LayerBits,
    MaskBundle,
    SignManifest,
    pack_bits,
)
from masking.base import Base
from masking.checkpoints.copies import FARTHEST, FinetunedCopy, change
from masking.heads import CLASSIFIER, POOLER
from masking.tasks import TaskSpec


@dataclass(frozen=True)
class CopySigns:
    """What becomes of a copy, before its scales are chosen.

    Attributes:
        base: The base.
        copy: The copy.
    """

    base: Base
    copy: FinetunedCopy

    @cached_property
    def deltas(self) -> Mapping[str, Tensor]:
        """By name of each layer with signs, copy less base: float32 [rows, columns]."""
        base, tensors = self.base, self.copy.tensors
        linears = base.blocks.linears(base.encoder)
        found = {name: tensors[f"{name}.weight"] - one.weight.cpu() for name, one in linears.items()}
        if self._pooler_is_near:
            assert base.pooler is not None
            found[POOLER] = self._pooler.weight.detach() - base.pooler.weight.cpu()
        return found

    @property
    def mean_scales(self) -> dict[str, Tensor]:
        """By layer the mean of |copy - base| of each row: the nearest weights. float32 [rows]."""
        return {name: delta.abs().mean(1) for name, delta in self.deltas.items()}

    @property
    def lost(self) -> tuple[str, float]:
        """Name and change of what the copy has moved farthest and the task keeps as the base's.

        That is an embedding, or of some architectures a layer that masks don't apply to.
        """
        base, kept = self.base.encoder, {f"{name}.weight" for name in self.deltas} | self._own().keys()
        moved = {
            name: change(self.copy.tensors[name], one)
            for name, one in base.named_parameters()
            if name not in kept
        }
        farthest = max(moved, key=lambda name: moved[name])
        return farthest, moved[farthest]

    def bundle(
        self,
        task: str,
        spec: TaskSpec,
        scales: Mapping[str, Tensor],
        *,
        settings: Mapping[str, JsonScalar],
        metrics: Mapping[str, float],
    ) -> MaskBundle:
        """Make the bundle.

        Args:
            task: Name of the task.
            spec: The task, of the copy's kind and labels.
            scales: By layer, float32 [rows], none below 0.
            settings: How the scales were chosen.
            metrics: What was measured.
        """
        head, own = self._head(), self._own()
        signs = {name: (delta >= 0).numpy() for name, delta in self.deltas.items()}
        manifest = SignManifest(
            task=task,
            kind=spec.kind,
            pair=spec.pair,
            labels=spec.labels,
            base=self.base.info,
            max_length=spec.max_length,
            layers=tuple(
                LayerBits(name=name, rows=bits.shape[0], columns=bits.shape[1], zeros=int((~bits).sum()))
                for name, bits in signs.items()
            ),
            head=_described(head),
            own=_described(own),
            head_activation=self.copy.head.activation,
            word_piece=spec.word_piece if spec.kind == "token-classification" else None,
            copied=self.copy.info,
            settings=dict(settings),
            metrics=dict(metrics),
            libraries={name: version(name) for name in ("torch", "transformers", "tokenizers")},
            created=datetime.now(UTC),
        )
        return MaskBundle.create_signs(
            manifest,
            {name: pack_bits(bits) for name, bits in signs.items()},
            scales={name: scales[name].float().numpy() for name in signs},
            own={name: tensor.numpy() for name, tensor in own.items()},
            head={name: tensor.numpy() for name, tensor in head.items()},
        )

    @property
    def _pooler(self) -> torch.nn.Linear:
        assert self.copy.head.pooler is not None
        return self.copy.layer(self.copy.head.pooler)

    @cached_property
    def _pooler_is_near(self) -> bool:
        """Tell whether the copy's pooler was finetuned from the base's, and not new."""
        if self.copy.head.pooler is None or self.base.pooler is None:
            return False
        return change(self._pooler.weight.detach(), self.base.pooler.weight) < FARTHEST

    def _head(self) -> dict[str, Tensor]:
        layers = {CLASSIFIER: self.copy.layer(self.copy.head.classifier)}
        if self.copy.head.pooler is not None and not self._pooler_is_near:
            layers[POOLER] = self._pooler
        tensors: dict[str, Tensor] = {}
        for name, layer in layers.items():
            bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
            tensors |= {f"{name}.weight": layer.weight.detach(), f"{name}.bias": bias}
        return tensors if self.copy.head.norm is None else tensors | self._with_norm(layers[CLASSIFIER])

    def _with_norm(self, classifier: torch.nn.Linear) -> dict[str, Tensor]:
        """Return the classifier of inputs before the weights of the head's LayerNorm."""
        norm = self.copy.model.get_submodule(str(self.copy.head.norm))
        assert isinstance(norm, torch.nn.LayerNorm)
        weight, bias = classifier.weight.detach(), classifier.bias.detach()
        shift = 0.0 if norm.bias is None else weight @ norm.bias.detach()
        return {f"{CLASSIFIER}.weight": weight * norm.weight.detach(), f"{CLASSIFIER}.bias": bias + shift}

    def _own(self) -> dict[str, Tensor]:
        tensors = self.copy.tensors
        names = [f"{name}.bias" for name in self.deltas if name != POOLER]
        names += [f"{name}.{part}" for name in self.base.blocks.norms for part in ("weight", "bias")]
        own = {name: tensors[name] for name in names if name in tensors}
        return own | ({f"{POOLER}.bias": self._pooler.bias.detach()} if POOLER in self.deltas else {})


def _described(tensors: Mapping[str, Tensor]) -> tuple[HeadTensorInfo, ...]:
    return tuple(HeadTensorInfo(name=name, shape=tuple(one.shape)) for name, one in tensors.items())
