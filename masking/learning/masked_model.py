"""Masked model: learns a task by a mask over the frozen base (paper, section 3).

Real-valued scores are a parametrization of each masked layer's weight: wherever PyTorch reads the weight it
gets W * M, M the mask of the scores. The base tensors themselves are shared with the `Base` and never written
to.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mask_store import (
    EvaluationInfo,
    HeadTensorInfo,
    LayerInfo,
    MaskBundle,
    MaskingInfo,
    TaskManifest,
    pack_bits,
)
from masking.base import Base
from masking.binarize import keep
from masking.heads import CLASSIFIER, POOLER
from masking.learning.scores import initial_scores, masked_weight
from masking.learning.settings import MaskSettings
from masking.learning.streams import stream
from masking.learning.task_model import TaskModel
from masking.tasks import TaskSpec


class MaskScores(nn.Module):
    """Parametrization of one weight: W becomes W * M, M the mask of the scores.

    Attributes:
        scores: float32, the shape of the weight; the only thing that is learned.
        threshold: tau, which a schedule of the sparsity moves.
        initial: Boolean, the mask before learning.
    """

    initial: Tensor

    def __init__(self, scores: Tensor, threshold: float) -> None:
        """Take the scores before learning, and tau."""
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.threshold = threshold
        self.register_buffer("initial", keep(scores, threshold), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight, float32 [rows, columns]."""
        return masked_weight(weight, self.scores, self.threshold)

    def mask(self) -> Tensor:
        """Return the present mask, boolean [rows, columns]."""
        return keep(self.scores.detach(), self.threshold)


class MaskedModel(TaskModel):
    """Encoder and head with a learnable mask on every chosen linear layer.

    Attributes:
        settings: How the masks start and learn.
        blocks: The masked blocks, ascending.
        threshold: The present tau of all masks; that of the settings until `set_sparsity` moves it.
    """

    def __init__(self, base: Base, spec: TaskSpec, settings: MaskSettings, seed: int) -> None:
        """Use `create`."""
        super().__init__(base, spec, base.share_encoder(), seed)
        self.settings = settings
        self.threshold = settings.threshold
        self.blocks = settings.masked_blocks(base.num_blocks)
        self._masks = self._add_scores(seed)
        if settings.head == "trained":
            self._head_modules().requires_grad_(True)
        self.to(base.device)

    @classmethod
    def create(cls, base: Base, spec: TaskSpec, settings: MaskSettings, *, seed: int) -> Self:
        """Make a model ready to learn a mask.

        Args:
            base: The pretrained encoder; shared, not copied, not changed.
            spec: The task.
            settings: Which blocks, score range, threshold and head.
            seed: Decides the random head and the initial scores, on every device alike.

        Raises:
            BlockOutOfRangeError: A block to mask is outside the encoder.
        """
        return cls(base, spec, settings, seed)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the masked layers, in the order of the computation."""
        return tuple(self._masks)

    @property
    def masks(self) -> Mapping[str, MaskScores]:
        """Scores and mask of each masked layer by its name, in the order of the computation."""
        return self._masks

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what the optimizer may change: scores by layer name, and `head.*` for a trained head."""
        learned = {name: mask.scores for name, mask in self._masks.items()}
        if self.settings.head == "trained":
            learned |= {f"head.{name}": p for name, p in self._head_modules().named_parameters()}
        return learned

    def learned_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs, with the threshold where it is no longer that of the settings."""
        moved = self.threshold != self.settings.threshold
        threshold = {"threshold": torch.tensor(self.threshold, dtype=torch.float64)} if moved else {}
        return super().learned_state() | threshold

    def load_learned_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `learned_state` gave; see `TaskModel.load_learned_state`."""
        super().load_learned_state({name: t for name, t in state.items() if name != "threshold"})
        self._set_threshold(float(state.get("threshold", self.settings.threshold)))

    def sparsity(self) -> float:
        """Return the share of zeros in all masks."""
        kept = sum(int(mask.mask().sum()) for mask in self._masks.values())
        return 1.0 - kept / self._bits()

    def set_sparsity(self, share: float) -> None:
        """Move the threshold to where this share of all bits is zero.

        Exact to within one bit over all masks together, and to as many as have the very score that becomes
        the threshold.

        Args:
            share: Wanted share of zeros, from 0 up to but not including 1.
        """
        scores = torch.cat([mask.scores.detach().flatten() for mask in self._masks.values()])
        zeros = min(round(share * scores.numel()), scores.numel() - 1)
        self._set_threshold(float(scores.sort().values[zeros]))  # CUDA's kthvalue is not deterministic

    def flip_rate(self) -> float:
        """Return the share of bits that differ from the mask before learning."""
        return sum(int((mask.mask() != mask.initial).sum()) for mask in self._masks.values()) / self._bits()

    def to_bundle(
        self,
        *,
        task: str,
        metric: str,
        metrics: Mapping[str, float],
        training: Mapping[str, str | int | float | bool | None],
        data_digest: str,
        seed: int,
        evaluation: EvaluationInfo | None = None,
    ) -> MaskBundle:
        """Make the immutable file that is published and served of what was learned.

        Args:
            task: Name of the task.
            metric: Name of the primary dev metric, a key of `metrics`.
            metrics: Dev metrics.
            training: Settings of the training run, for the record.
            data_digest: Digest of the data learned from.
            seed: The seed that `create` was given.
            evaluation: How it answers the dev set, in short.
        """
        head = self._head_tensors()
        manifest = TaskManifest(
            format_version=1,
            task=task,
            kind=self.spec.kind,
            pair=self.spec.pair,
            labels=self.spec.labels,
            thresholds=self.spec.thresholds or None,
            pooling=self.spec.pooling,
            base=self.base.info,
            max_length=self.spec.max_length,
            masking=self._masking_info(),
            head_activation=self.head_activation,
            seed=seed,
            layers=tuple(_layer_info(name, mask) for name, mask in self._masks.items()),
            head=tuple(HeadTensorInfo(name=n, shape=tuple(t.shape)) for n, t in head.items()),
            metric=metric,
            metrics=dict(metrics),
            evaluation=evaluation,
            training=dict(training),
            data_digest=data_digest,
            libraries={name: version(name) for name in ("torch", "transformers", "tokenizers")},
            created=datetime.now(UTC),
        )
        masks = {name: pack_bits(mask.mask().cpu().numpy()) for name, mask in self._masks.items()}
        return MaskBundle.create(manifest, masks, {name: t.numpy() for name, t in head.items()})

    def _set_threshold(self, threshold: float) -> None:
        self.threshold = threshold
        for mask in self._masks.values():
            mask.threshold = threshold

    def _add_scores(self, seed: int) -> dict[str, MaskScores]:
        """Parametrize the chosen layers, in the order of the computation."""
        layers = self.base.blocks.linears(self.encoder, self.blocks)
        trained_head = self.settings.head == "trained"
        if self.pooler is not None and not (trained_head and self.pooler_is_random):
            layers[POOLER] = self.pooler
        if self.classifier is not None and not trained_head:
            layers[CLASSIFIER] = self.classifier
        return {name: self._mask_layer(linear, name, seed) for name, linear in layers.items()}

    def _mask_layer(self, linear: nn.Linear, name: str, seed: int) -> MaskScores:
        settings, generator = self.settings, stream(seed, f"scores of {name}")
        shape = tuple(linear.weight.shape)
        scores = initial_scores(shape, settings.score_low, settings.score_high, generator)
        mask = MaskScores(scores.to(linear.weight.device), settings.threshold)
        parametrize.register_parametrization(linear, "weight", mask)
        return mask

    def _head_modules(self) -> nn.ModuleDict:
        """Return the head's layers that are not part of the base."""
        modules: dict[str, nn.Module] = {} if self.classifier is None else {CLASSIFIER: self.classifier}
        if self.pooler is not None and self.pooler_is_random:
            modules["pooler"] = nn.ModuleDict({"dense": self.pooler})
        return nn.ModuleDict(modules)

    def _head_tensors(self) -> dict[str, Tensor]:
        """Return the head's own tensors before masking, by the names they have in a bundle."""
        named = self._head_modules().named_parameters()
        plain = {n.replace("parametrizations.weight.original", "weight"): p.detach().cpu() for n, p in named}
        return {name: tensor for name, tensor in plain.items() if not name.endswith(".scores")}

    def _masking_info(self) -> MaskingInfo:
        settings = self.settings
        return MaskingInfo(
            blocks=self.blocks,
            threshold=self.threshold,
            score_low=settings.score_low,
            score_high=settings.score_high,
            initial_sparsity=settings.initial_sparsity,
            head=settings.head,
        )

    def _bits(self) -> int:
        return sum(mask.scores.numel() for mask in self._masks.values())


def _layer_info(name: str, mask: MaskScores) -> LayerInfo:
    rows, columns = mask.scores.shape
    present = mask.mask()
    return LayerInfo(
        name=name,
        rows=rows,
        columns=columns,
        zeros=int((~present).sum()),
        initial_zeros=int((~mask.initial).sum()),
        flipped=int((present != mask.initial).sum()),
    )
