"""Units of a block: heads and feed-forward neurons, which are kept or dropped whole, and are learned as such.

A unit is written by rows of some layers and read by columns of another: a head by its rows of W_Q, W_K and
W_V and its columns of W_AO, a neuron by its row of W_I and its column of W_O. Where the columns are zeros, no
row matters, so a unit is dropped by its columns alone while it is learned, and by rows and columns in the
mask that comes of it: an ordinary one, of a bit for each weight.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from masking import Base, MaskedModel, MaskSettings, TaskSpec
from masking.binarize import keep
from masking.errors import UnsupportedArchitectureError
from training.data.features import Batch
from training.kinds import TRAINING_KINDS

Kind = Literal["heads", "neurons"]
KINDS: tuple[Kind, ...] = ("heads", "neurons")
_THRESHOLD = "threshold of {}"


@dataclass(frozen=True)
class Units:
    """The units of one kind in one block.

    Attributes:
        kind: What they are.
        block: Number of the block.
        writers: Full names of the layers that have rows of each.
        reader: That of the layer that has columns of each.
        count: How many there are.
        width: Rows and columns of each.
    """

    kind: Kind
    block: int
    writers: tuple[str, ...]
    reader: str
    count: int
    width: int

    def spread(self, each: Tensor) -> Tensor:
        """Repeat a value a unit, [count], for its rows or columns, [count * width]."""
        return each.repeat_interleave(self.width)

    def present(self, masks: Mapping[str, Tensor]) -> Tensor:
        """Tell which units a task's masks have: boolean [count], False where rows and columns are zeros.

        Args:
            masks: Boolean masks by layer name.
        """
        lines = [masks[name].any(1) for name in self.writers] + [masks[self.reader].any(0)]
        return torch.stack(lines).any(0).view(self.count, self.width).any(1)


def units_of(base: Base, blocks: Iterable[int] | None = None) -> tuple[Units, ...]:
    """Return the units of blocks of a base, block by block.

    Args:
        base: The encoder.
        blocks: Numbers of the blocks; None for all.

    Raises:
        UnsupportedArchitectureError: Its blocks are not those of BERT and its kin.
    """
    names = base.blocks.known
    if names is None:
        raise UnsupportedArchitectureError(
            f"base {base.info.name}: heads and neurons are known of BERT and its kin, not of "
            f"{base.info.architecture!r}"
        )
    heads = int(base.encoder.config.num_attention_heads)
    found = []
    for block in range(base.num_blocks) if blocks is None else blocks:
        query, key, value, attended, intermediate, output = names.in_block(block)
        neurons = base.maskable_linears[intermediate].out_features
        width = base.hidden_size // heads
        found.append(Units("heads", block, (query, key, value), attended, heads, width))
        found.append(Units("neurons", block, (intermediate,), output, neurons, 1))
    return tuple(found)


class _Gates(torch.autograd.Function):
    """Bits of scores, 0.0 and 1.0; a score gets the gradient of its bit (paper, equation 2)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, threshold: float) -> Tensor:
        return keep(scores, threshold, out=torch.empty_like(scores))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class UnitScores(nn.Module):
    """Parametrization of the layer that reads units: the columns of those below the threshold are zeros.

    Attributes:
        units: Which.
        scores: float32, one a unit.
        threshold: From which a unit is kept.
    """

    def __init__(self, units: Units) -> None:
        """Keep all units."""
        super().__init__()
        self.units = units
        self.scores = nn.Parameter(torch.zeros(units.count))
        self.threshold = float("-inf")

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight, float32 [rows, count * width], with zeros for what is dropped."""
        gates: Tensor = _Gates.apply(self.scores, self.threshold)  # type: ignore[no-untyped-call]
        return weight * self.units.spread(gates)

    def kept(self) -> Tensor:
        """Return which units are kept, boolean [count]."""
        return keep(self.scores.detach(), self.threshold)


class StructuredModel(MaskedModel):
    """Masked model that learns the bits of weights together with what units it has.

    Its sparsity is that of units: the share of the heads, and of the neurons, of all blocks that is dropped;
    so a run with a final sparsity ends with that share dropped. Publish what `to_masked` returns.
    """

    def __init__(self, base: Base, spec: TaskSpec, settings: MaskSettings, seed: int) -> None:
        """Use `create`."""
        super().__init__(base, spec, settings, seed)
        self._seed = seed
        units = [UnitScores(one) for one in units_of(base, self.blocks)]
        self._units = {f"units.{one.units.kind}.{one.units.block}": one for one in units}
        for scores in self._units.values():
            reader = self.encoder.get_submodule(scores.units.reader)
            parametrize.register_parametrization(reader, "weight", scores.to(base.device))

    def units(self, kind: Kind) -> list[UnitScores]:
        """Return the scores of all units of a kind, block by block."""
        return [scores for scores in self._units.values() if scores.units.kind == kind]

    def start(self, learned: Mapping[str, Tensor]) -> None:
        """Begin with the bits and the head of a mask that was learned without units, and keep all units.

        Args:
            learned: The learned state of a `MaskedModel` with the same settings.
        """
        super().load_learned_state({**learned, **self._scores_of_units()})

    def order(self, effects: Mapping[Kind, Tensor]) -> None:
        """Spread the scores of units evenly over the range of the bits' own, in the order of their effects.

        Args:
            effects: By kind a number for each unit, block by block; the lowest is the first to be dropped.
        """
        low, width = self.settings.score_low, self.settings.score_range
        for kind, values in effects.items():
            units = self.units(kind)
            scores = low + width * values.argsort().argsort() / len(values)
            for one, own in zip(units, scores.split([one.units.count for one in units]), strict=True):
                one.scores.data.copy_(own)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what the optimizer may change; see `MaskedModel.trainable`."""
        return super().trainable() | {name: one.scores for name, one in self._units.items()}

    def sparsity(self) -> float:
        """Return the share of units that are dropped, mean over the kinds."""
        kept = [torch.cat([one.kept() for one in self.units(kind)]).float().mean() for kind in KINDS]
        return 1.0 - float(sum(kept)) / len(kept)

    def set_sparsity(self, share: float) -> None:
        """Move the thresholds of units to where this share of each kind is dropped.

        Exact to within one unit over all blocks together, and to as many as have the very score that becomes
        the threshold.

        Args:
            share: Wanted share of dropped units, from 0 up to but not including 1.
        """
        for kind in KINDS:
            scores = torch.cat([one.scores.detach() for one in self.units(kind)])
            dropped = min(round(share * len(scores)), len(scores) - 1)
            self._set_thresholds(kind, float(scores.sort().values[dropped]) if dropped else float("-inf"))

    def learned_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs, with the thresholds of units."""
        thresholds = {
            _THRESHOLD.format(kind): torch.tensor(self.units(kind)[0].threshold, dtype=torch.float64)
            for kind in KINDS
        }
        return super().learned_state() | thresholds

    def load_learned_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `learned_state` gave; see `TaskModel.load_learned_state`."""
        rest = dict(state)
        for kind in KINDS:
            self._set_thresholds(kind, float(rest.pop(_THRESHOLD.format(kind))))
        super().load_learned_state(rest)

    def to_masked(self) -> MaskedModel:
        """Return the same as an ordinary masked model: a dropped unit is zeros of its rows and columns."""
        plain = MaskedModel.create(self.base, self.spec, self.settings, seed=self._seed)
        state, own = super().learned_state(), self._scores_of_units()
        plain.load_learned_state({name: tensor for name, tensor in state.items() if name not in own})
        for one in self._units.values():
            dropped = one.units.spread(~one.kept())
            for name in one.units.writers:
                plain.masks[name].scores.data[dropped] = self.settings.score_low
            plain.masks[one.units.reader].scores.data[:, dropped] = self.settings.score_low
        return plain.eval()

    def _scores_of_units(self) -> dict[str, Tensor]:
        return {name: one.scores.detach() for name, one in self._units.items()}

    def _set_thresholds(self, kind: Kind, threshold: float) -> None:
        for one in self.units(kind):
            one.threshold = threshold


def effects_of(model: StructuredModel, batches: Iterable[Batch]) -> dict[Kind, Tensor]:
    """Return by kind the effect of each unit on the loss, block by block, float32.

    It is the size of the derivative of the loss by the unit's bit, added up over batches.

    Args:
        model: In evaluation mode.
        batches: Of the rows to learn from.
    """
    training = TRAINING_KINDS[model.spec.kind]
    scores = [one.scores for kind in KINDS for one in model.units(kind)]
    sums = [torch.zeros_like(one) for one in scores]
    for batch in batches:
        loss = training.loss(model(batch.inputs).float(), batch.targets, batch.counts, batch.total)
        for own, gradient in zip(sums, torch.autograd.grad(loss, scores), strict=True):
            own.add_(gradient.abs())
    effects = iter(sums)
    return {kind: torch.cat([next(effects) for _ in model.units(kind)]) for kind in KINDS}
