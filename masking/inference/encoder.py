"""Masked encoder: the masks of many tasks over ONE resident base, all tasks of a batch in one forward pass.

What no mask touches (embeddings, attention, LayerNorm, blocks below the first masked one) is computed once
for the whole batch; each masked layer is one `masked_linear` over the segments of all tasks. Tasks with signs
come after those with masks (`masking.inference.signs`). A task's masks are immutable values handed to each
call; nothing about a task is ever stored on the shared modules, so no call can see another's masks, and a
call without masks is refused rather than answered by the bare base. The base tensors are read, never written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masking.architectures import LayerNames
from masking.base import Base
from masking.heads import CLASSIFIER, POOLER
from masking.inference.blocks import LineBlock
from masking.inference.combine import combine_logits
from masking.inference.loaded_task import LoadedTask, Member
from masking.inference.packing import RowBatch, attend_by_row, attending, can_pack, pack_rows, pad_rows
from masking.inference.resident import ResidentWeights
from masking.inference.segmented import SegmentedBatch, computed, computing
from masking.inference.signs import SignedSegments
from masking.kernels import LinearMask, Segments, kernel_runs, mask_addresses
from masking.tasks import MODEL_KINDS, Features, Row
from masking.tasks.predictions import Floats


@dataclass(frozen=True)
class TaskBatch:
    """The inputs of one task version in a batch.

    Attributes:
        task: The task.
        features: Its inputs, at least one.
    """

    task: LoadedTask
    features: Sequence[Features]


@dataclass(frozen=True)
class _Run:
    """The rows of one task batch under the masks of one member: adjacent in the batch.

    Attributes:
        pooled: Whether the head reads [CLS] of each row, through the pooler; otherwise every token.
        member: The member, for its masks and its head.
        rows: The rows of all inputs.
        first: Number of the first row in the batch.
    """

    pooled: bool
    member: Member
    rows: Sequence[Row]
    first: int

    @property
    def last(self) -> int:
        """Number of the row after the last."""
        return self.first + len(self.rows)


class _RoutedLinear(nn.Module):
    """A linear layer of the base that asks the batch being computed for its masks."""

    def __init__(self, name: str, linear: nn.Linear) -> None:
        super().__init__()
        self.name = name
        self.weight = linear.weight
        self.bias = linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = computed().linear(self.name, inputs.flatten(0, -2).contiguous(), self)
        return outputs.view(*inputs.shape[:-1], -1)


class _RoutedNorm(nn.Module):
    """A LayerNorm of the base that asks the batch being computed for those of its copies."""

    def __init__(self, name: str, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.name = name
        self.norm = norm

    def forward(self, inputs: Tensor) -> Tensor:
        batch = computed()
        if batch.signed is None:
            normalised: Tensor = self.norm(inputs)
            return normalised
        return batch.norm(self.name, inputs.flatten(0, -2), self.norm).view_as(inputs)


class MaskedEncoder:
    """The resident base, able to compute any loaded tasks. Call it from one thread at a time."""

    def __init__(self, base: Base, weights: ResidentWeights | None = None) -> None:
        """Route the maskable layers of `base` (its tensors are shared, its modules left alone).

        Args:
            base: The resident base.
            weights: Its maskable layers in a precision, which tasks have to be loaded with; without, the
                base's own, in fp32.
        """
        self.base = base
        self.weights = weights or ResidentWeights(base.device)
        self._addressed = base.device.type == "cuda" and kernel_runs(base.device, self.weights.kernels)
        self._encoder = base.share_encoder()
        self._lay_out: Callable[[Sequence[Row], Base], RowBatch] = pad_rows
        linears, norms = base.blocks.linears(base.encoder), base.blocks.layer_norms(self._encoder)
        self._names = tuple(linears)
        if can_pack(base):
            self._lay_out = pack_rows
            attend_by_row(self._encoder)
            if self.weights.lines and base.blocks.known:
                self._replace_blocks(base.blocks.known)
                linears = {}
                norms = {name: one for name, one in norms.items() if not name.startswith(base.blocks.path)}
        for name, norm in norms.items():
            self._encoder.set_submodule(name, _RoutedNorm(name, norm))
        for name, linear in linears.items():
            routed = _RoutedLinear(name, linear)
            if name in self.weights.lines:  # its own tensor is not held, so that it may be let go of
                routed.weight = nn.Parameter(linear.weight.detach().to("meta"), requires_grad=False)
            self._encoder.set_submodule(name, routed)

    def _replace_blocks(self, names: LayerNames) -> None:
        config = self.base.encoder.config
        for number, block in enumerate(self._encoder.get_submodule(names.blocks).children()):
            self._encoder.set_submodule(f"{names.blocks}.{number}", LineBlock(block, config, names, number))

    def logits(self, task_batches: Sequence[TaskBatch]) -> list[list[Floats]]:
        """Compute the logits of every input, the inputs of all tasks together.

        Args:
            task_batches: The batch, at least one task of it.

        Returns:
            Per task batch and input float32 logits: [labels], [choices] or [words, labels].
        """
        places = sorted(range(len(task_batches)), key=lambda place: _signed(task_batches[place]))
        found = dict(zip(places, self._logits([task_batches[place] for place in places]), strict=True))
        return [found[place] for place in range(len(task_batches))]

    def _logits(self, task_batches: Sequence[TaskBatch]) -> list[list[Floats]]:
        """Compute the logits of tasks, those with signs after those with masks."""
        runs = list(_runs(task_batches))
        with torch.inference_mode():
            batch = self._lay_out([row for run in runs for row in run.rows], self.base)
            logits = self._head(batch, self._hidden(batch, runs), runs)
            # one transfer for all
            flat = torch.cat([one.flatten() for one in logits]).float().cpu().numpy()
        ends = accumulate((one.numel() for one in logits), initial=0)
        arrays = [flat[a:b].reshape(one.shape) for (a, b), one in zip(pairwise(ends), logits, strict=True)]
        by_run = iter(_by_row(batch, run, array) for run, array in zip(runs, arrays, strict=True))
        return [_gather(one, [next(by_run) for _ in one.task.members]) for one in task_batches]

    def _hidden(self, batch: RowBatch, runs: Sequence[_Run]) -> Tensor:
        """Compute the encoder's output: float32 [tokens, hidden], padding included where rows are padded."""
        lengths = [sum(batch.widths[run.first : run.last]) for run in runs]
        segmented = self._segmented(runs, lengths, self._names)
        with computing(segmented), attending(batch):
            hidden: Tensor = self._encoder(**batch.inputs).last_hidden_state
        return hidden.flatten(0, 1).float()

    def _segmented(
        self, runs: Sequence[_Run], lengths: Sequence[int], names: Sequence[str]
    ) -> SegmentedBatch:
        """Find the masks of runs with these many tokens each, in the layers called `names`."""
        edge = sum(run.member.signs is None for run in runs)
        masks = {name: [run.member.masks.layers.get(name) for run in runs[:edge]] for name in names}
        segments, signed = Segments.of_lengths(lengths[:edge]), None
        if edge < len(runs):
            bits = {name: [run.member.masks.layers[name] for run in runs[edge:]] for name in names}
            signs = [run.member.signs for run in runs[edge:] if run.member.signs is not None]
            own = Segments.of_lengths(lengths[edge:])
            signed = SignedSegments(own, signs, bits, self.weights, self._addresses(bits))
        return SegmentedBatch(segments, masks, self.weights, self._addresses(masks), signed)

    def _addresses(self, masks: Mapping[str, Sequence[LinearMask | None]]) -> Mapping[str, Tensor]:
        if not self._addressed:
            return {}
        return dict(zip(masks, mask_addresses(list(masks.values()), self.base.device), strict=True))

    def _head(self, batch: RowBatch, hidden: Tensor, runs: Sequence[_Run]) -> list[Tensor]:
        """Compute the logits of each run: [rows, outputs], or [tokens, labels] for token classification."""
        pooling = [run for run in runs if run.pooled]
        pooled = iter(self._pool(batch, hidden, pooling) if pooling else ())
        bounds = (*batch.starts, len(hidden))

        def inputs(run: _Run) -> Tensor:
            return next(pooled) if run.pooled else hidden[bounds[run.first] : bounds[run.last]]

        return [_own_linear(CLASSIFIER, run, inputs(run)) for run in runs]

    def _pool(self, batch: RowBatch, hidden: Tensor, runs: Sequence[_Run]) -> Sequence[Tensor]:
        """Put each run's rows through W_P and the activation: [rows, hidden]."""
        starts = [batch.starts[row] for run in runs for row in range(run.first, run.last)]
        first_tokens = hidden.index_select(0, torch.tensor(starts, device=hidden.device))
        inputs = torch.split(first_tokens, [len(run.rows) for run in runs])
        by_run = list(zip(runs, inputs, strict=True))
        shared = [(run, one) for run, one in by_run if f"{POOLER}.weight" not in run.member.head]
        of_base = iter(self._pool_by_base(shared) if shared else ())
        return [
            run.member.activation(
                _own_linear(POOLER, run, one) if f"{POOLER}.weight" in run.member.head else next(of_base)
            )
            for run, one in by_run
        ]

    def _pool_by_base(self, runs: Sequence[tuple[_Run, Tensor]]) -> Sequence[Tensor]:
        """Put the first tokens of runs through the base's own W_P."""
        assert self.base.pooler is not None
        counts = [len(inputs) for _, inputs in runs]
        segmented = self._segmented([run for run, _ in runs], counts, (POOLER,))
        first_tokens = torch.cat([inputs for _, inputs in runs])
        return torch.split(segmented.linear(POOLER, first_tokens, self.base.pooler), counts)


def _runs(task_batches: Sequence[TaskBatch]) -> Iterator[_Run]:
    first = 0
    for one in task_batches:
        rows = [row for item in one.features for row in item.rows]
        pooled = MODEL_KINDS[one.task.spec.kind].pooled
        for member in one.task.members:
            yield _Run(pooled, member, rows, first)
            first += len(rows)


def _signed(batch: TaskBatch) -> bool:
    return any(member.signs is not None for member in batch.task.members)


def _own_linear(name: str, run: _Run, inputs: Tensor) -> Tensor:
    """Compute a layer of the run's own head, whose mask was applied when it was loaded."""
    return F.linear(inputs, run.member.head[f"{name}.weight"], run.member.head[f"{name}.bias"])


def _by_row(batch: RowBatch, run: _Run, logits: Floats) -> list[Floats]:
    """Cut a run's logits into those of each row, padding left out: [outputs] or [tokens, labels]."""
    if run.pooled:
        return list(logits)
    ends = accumulate(batch.widths[run.first : run.last])
    return [
        logits[end - batch.widths[row] :][: batch.lengths[row]] for row, end in enumerate(ends, run.first)
    ]


def _gather(task_batch: TaskBatch, by_member: Sequence[Sequence[Floats]]) -> list[Floats]:
    """Make the logits of each input of one task from those of its rows under each member."""
    codec, rule = task_batch.task.codec, task_batch.task.combine
    results, start = [], 0
    for item in task_batch.features:
        end = start + len(item.rows)
        each = [codec.gather(item, row_logits[start:end]) for row_logits in by_member]
        results.append(each[0] if rule is None else combine_logits(rule, each))
        start = end
    return results
