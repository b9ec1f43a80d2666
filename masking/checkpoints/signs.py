"""Signs of a copy: one bit per weight, the sign of (copy - base), and one scale for each output row.

The task's weight is W + a (2b - 1). Biases, LayerNorms and head are the copy's own; embeddings stay the
base's, unless their changed rows are kept. A copy whose encoder is the base's own has no signs, and a head
alone, if any.
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
from masking.architectures import block_linears, layer_norms, token_embeddings
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
        keeps_rows: Whether rows of embeddings that differ from the base's are kept.
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
        """By the name of each embedding that is kept, which of its rows differ from the base's: boolean."""
        if not self.keeps_rows:
            return {}
        own = token_embeddings(self.base.encoder)
        found = {f"{name}.weight": one.weight.detach().cpu() for name, one in own.items()}
        differing = {name: (self.copy.tensors[name] != one).any(1) for name, one in found.items()}
        return {name: rows for name, rows in differing.items() if bool(rows.any())}

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
    def embeddings_moved(self) -> float:
        """The largest change of an embedding, which is lost; see `FinetunedCopy.moved`."""
        inside = {f"{name}.weight" for name in self.deltas} | self.rows.keys()
        return max((far for name, far in self.copy.moved.items() if name not in inside), default=0.0)

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
        return {
            f"{name}.{part}": getattr(layer, part).detach()
            for name, layer in layers.items()
            for part in ("weight", "bias")
        }

    def _own(self) -> dict[str, Tensor]:
        if self.unchanged:
            return {}
        tensors = self.copy.tensors
        own = {name: tensors[name] for name in self._own_names}
        return own | ({f"{POOLER}.bias": self._pooler.bias.detach()} if POOLER in self.deltas else {})

    @cached_property
    def _linears(self) -> Mapping[str, nn.Linear]:
        base = self.base
        return block_linears(base.encoder, base.info.architecture, range(base.num_blocks))

    @property
    def _own_names(self) -> list[str]:
        """Names of biases and LayerNorms."""
        names = [f"{name}.bias" for name in self._linears]
        return names + [
            f"{name}.{part}" for name in layer_norms(self.base.encoder) for part in ("weight", "bias")
        ]

    @property
    def _compared(self) -> list[str]:
        return [*(f"{name}.weight" for name in self._linears), *self._own_names]


def _described(tensors: Mapping[str, Tensor]) -> tuple[HeadTensorInfo, ...]:
    return tuple(HeadTensorInfo(name=name, shape=tuple(one.shape)) for name, one in tensors.items())
