"""Signs of a copy: one bit per weight, the sign of (copy - base), and one scale for each output row.

The task's weight is W + a (2b - 1). Biases, LayerNorms, the embedding of token types and head are the copy's
own; that of tokens stays the base's, unless its changed rows are kept. A copy whose encoder is the base's own
has no signs, and a head alone, if any.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version

import torch
from torch import Tensor, nn

from mask_store import (
    ChangedRows,
    HeadTensorInfo,
    JsonScalar,
    LayerBits,
    MaskBundle,
    SignManifest,
    pack_bits,
)
from masking.architectures import row_embeddings
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
        keeps_rows: Whether rows of the embedding of tokens that differ from the base's are kept.
    """

    base: Base
    copy: FinetunedCopy
    keeps_rows: bool = False

    @cached_property
    def unchanged(self) -> bool:
        """Whether all that signs would hold of the encoder is equal in copy and base."""
        own, theirs = dict(self.base.encoder.named_parameters()), self.copy.tensors
        return not self.rows and all(torch.equal(theirs[name], own[name].cpu()) for name in self._compared)

    @cached_property
    def rows(self) -> Mapping[str, Tensor]:
        """By name of each embedding that is kept, which rows differ from the base's: boolean."""
        tokens, *types = (f"{name}.weight" for name in row_embeddings(self.base.encoder))
        theirs, own = self.copy.tensors, self.base.encoder.get_parameter
        kept = (tokens, *types) if self.keeps_rows else types
        rows = {name: (theirs[name] != own(name).cpu()).any(1) for name in kept}
        return {name: changed for name, changed in rows.items() if bool(changed.any())}

    @cached_property
    def deltas(self) -> Mapping[str, Tensor]:
        """By name of each layer with signs, copy less base: float32 [rows, columns]."""
        if self.unchanged:
            return {}
        base, tensors = self.base, self.copy.tensors
        found = {name: tensors[f"{name}.weight"] - one.weight.cpu() for name, one in self._linears.items()}
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
        kept |= self.rows.keys()
        moved = {
            name: change(self.copy.tensors[name], one)
            for name, one in base.named_parameters()
            if name not in kept
        }
        return max(moved.items(), key=lambda one: one[1], default=("nothing", 0.0))

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
            pooling=spec.pooling,
            layers=tuple(
                LayerBits(name=name, rows=bits.shape[0], columns=bits.shape[1], zeros=int((~bits).sum()))
                for name, bits in signs.items()
            ),
            head=_described(head),
            own=_described(own),
            embeddings=tuple(self._changed_rows()),
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
            {name: pack_bits(bits) for name, bits in signs.items()}
            | {name: pack_bits(rows.unsqueeze(0).numpy()) for name, rows in self.rows.items()},
            rows={name: self.copy.tensors[name][rows].numpy() for name, rows in self.rows.items()},
            scales={name: scales[name].float().numpy() for name in signs},
            own={name: tensor.numpy() for name, tensor in own.items()},
            head={name: tensor.numpy() for name, tensor in head.items()},
        )

    @property
    def _pooler(self) -> nn.Linear:
        assert self.copy.head.pooler is not None
        return self.copy.layer(self.copy.head.pooler)

    @cached_property
    def _pooler_is_near(self) -> bool:
        """Tell whether the copy's pooler was finetuned from the base's, and not new."""
        if self.copy.head.pooler is None or self.base.pooler is None:
            return False
        return change(self._pooler.weight.detach(), self.base.pooler.weight) < FARTHEST

    def _changed_rows(self) -> Iterator[ChangedRows]:
        for name, rows in self.rows.items():
            count, width = self.copy.tensors[name].shape
            yield ChangedRows(name=name, rows=1, columns=count, zeros=count - int(rows.sum()), width=width)

    def _head(self) -> dict[str, Tensor]:
        layers = {}
        if self.copy.head.classifier is not None:
            layers[CLASSIFIER] = self.copy.layer(self.copy.head.classifier)
        if self.copy.head.pooler is not None and POOLER not in self.deltas:
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
        if self.unchanged:
            return {}
        tensors = self.copy.tensors
        own = {name: tensors[name] for name in self._own_names}
        return own | ({f"{POOLER}.bias": self._pooler.bias.detach()} if POOLER in self.deltas else {})

    @cached_property
    def _linears(self) -> Mapping[str, nn.Linear]:
        return self.base.blocks.linears(self.base.encoder)

    @property
    def _own_names(self) -> list[str]:
        """Names of biases, LayerNorms and RMSNorms."""
        names = [f"{name}.bias" for name in self._linears]
        names += [f"{name}.{part}" for name in self.base.blocks.norms for part in ("weight", "bias")]
        return [name for name in names if name in self.copy.tensors]

    @property
    def _compared(self) -> list[str]:
        return [*(f"{name}.weight" for name in self._linears), *self._own_names]


def _described(tensors: Mapping[str, Tensor]) -> tuple[HeadTensorInfo, ...]:
    return tuple(HeadTensorInfo(name=name, shape=tuple(one.shape)) for name, one in tensors.items())
