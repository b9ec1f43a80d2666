"""Masked encoder: the masks of many tasks over ONE resident base, all tasks of a batch in one forward pass.

What no mask touches (embeddings, attention, LayerNorm, blocks below the first masked one) is computed once
for the whole batch, and for rows of equal tokens once (`masking.inference.sharing`); each masked layer is one
`masked_linear` over the segments of all tasks. Tasks with signs come after those with masks
(`masking.inference.signs`). A task's masks are immutable values handed to each call; nothing about a task is
ever stored on the shared modules, so no call can see another's masks, and a call without masks is refused
rather than answered by the bare base. The base tensors are read, never written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mask_store import Pooling
from masking.architectures import LayerNames, row_embeddings
from masking.base import Base
from masking.heads import CLASSIFIER, POOLER, pool_tokens
from masking.inference.blocks import LineBlock
from masking.inference.combine import combine_logits
from masking.inference.loaded_task import LoadedTask, Member
from masking.inference.packing import RowBatch, attend_by_row, can_pack, pack_rows, pack_states, pad_rows
from masking.inference.resident import ResidentWeights
from masking.inference.segmented import ReadTokens, SegmentedBatch, computed
from masking.inference.sharing import (
    EMBEDDINGS,
    Stage,
    StageBatch,
    begin_stages,
    can_share,
    in_stages,
    number_equal,
    plan_stages,
    read_places,
    token_places,
)
from masking.inference.signs import SignedSegments
from masking.kernels import LinearMask, Segments, kernel_runs, mask_addresses
from masking.kernels.cpu.lines import at_once
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
        pooling: What is made of each row's tokens where there is no head; else None.
        member: The member, for its masks and its head.
        rows: The rows of all inputs.
        first: Number of the first row in the batch.
    """

    pooled: bool
    pooling: Pooling | None
    member: Member
    rows: Sequence[Row]
    first: int

    @property
    def reads_first(self) -> bool:
        """Whether of each row only [CLS] is read."""
        return self.pooled or self.pooling == "cls"

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
    """A LayerNorm or RMSNorm of the base that asks the batch being computed for those of its copies."""

    def __init__(self, name: str, norm: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.norm = norm

    def forward(self, inputs: Tensor) -> Tensor:
        batch = computed()
        if batch.signed is None:
            normalised: Tensor = self.norm(inputs)
            return normalised
        return batch.norm(self.name, inputs.flatten(0, -2), self.norm).view_as(inputs)


class _RoutedEmbedding(nn.Module):
    """An embedding that asks the batch being computed for rows of its copies."""

    def __init__(self, name: str, embedding: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.embedding = embedding

    def forward(self, ids: Tensor) -> Tensor:
        outputs: Tensor = self.embedding(ids)
        computed().embed(f"{self.name}.weight", ids.flatten(), outputs.view(-1, outputs.shape[-1]))
        return outputs


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
        self._blocks = {name: number for number, names in enumerate(base.blocks.layers) for name in names}
        linears, norms = base.blocks.linears(base.encoder), base.blocks.layer_norms(self._encoder)
        self._line_blocks: list[LineBlock] = []
        if can_pack(base):
            self._lay_out = pack_rows
            attend_by_row(self._encoder)
            if self.weights.lines and base.blocks.known:
                self._line_blocks = self._replace_blocks(base.blocks.known)
                linears = {}
                norms = {name: one for name, one in norms.items() if not name.startswith(base.blocks.path)}
        self._shares = can_share(base)
        once = base.blocks.passes == 1  # else the last block is not the end of the encoder
        self._reads_tokens = bool(self._line_blocks) and once
        if self._shares:
            begin_stages(self._encoder.get_submodule(base.blocks.path))
        for name, embedding in row_embeddings(self._encoder).items():
            self._encoder.set_submodule(name, _RoutedEmbedding(name, embedding))
        for name, norm in norms.items():
            self._encoder.set_submodule(name, _RoutedNorm(name, norm))
        for name, linear in linears.items():
            routed = _RoutedLinear(name, linear)
            if name in self.weights.lines:  # its own tensor is not held, so that it may be let go of
                routed.weight = nn.Parameter(linear.weight.detach().to("meta"), requires_grad=False)
            self._encoder.set_submodule(name, routed)

    def _replace_blocks(self, names: LayerNames) -> list[LineBlock]:
        """Let blocks of the line kernel take the places of the encoder's own."""
        config, blocks = self.base.encoder.config, list(self._encoder.get_submodule(names.blocks).children())
        made = [LineBlock(block, config, names, number) for number, block in enumerate(blocks)]
        for number, block in enumerate(made):
            self._encoder.set_submodule(f"{names.blocks}.{number}", block)
        return made

    def logits(self, task_batches: Sequence[TaskBatch]) -> list[list[Floats]]:
        """Compute the logits of every input, the inputs of all tasks together.

        Args:
            task_batches: The batch, at least one task of it.

        Returns:
            Per task batch and input float32 logits: [labels], [choices] or [words, labels]; of embeddings
            [hidden].
        """
        places = sorted(range(len(task_batches)), key=lambda place: _signed(task_batches[place]))
        found = dict(zip(places, self._logits([task_batches[place] for place in places]), strict=True))
        return [found[place] for place in range(len(task_batches))]

    def _logits(self, task_batches: Sequence[TaskBatch]) -> list[list[Floats]]:
        """Compute the logits of tasks, those with signs after those with masks."""
        runs = list(_runs(task_batches))
        with torch.inference_mode():
            batch, hidden = self._hidden(runs)
            logits = self._head(batch, hidden, runs)
            # one transfer for all
            flat = torch.cat([one.flatten() for one in logits]).float().cpu().numpy()
        ends = accumulate((one.numel() for one in logits), initial=0)
        arrays = [flat[a:b].reshape(one.shape) for (a, b), one in zip(pairwise(ends), logits, strict=True)]
        by_run = iter(_by_row(batch, run, array) for run, array in zip(runs, arrays, strict=True))
        return [_gather(one, [next(by_run) for _ in one.task.members]) for one in task_batches]

    def _hidden(self, runs: Sequence[_Run]) -> tuple[RowBatch, Tensor]:
        """Compute what the heads read: how it lies, and float32 [places, hidden]."""
        plan = self._stages(runs)
        stages = self._stage_batches(runs, [one for one in plan if one.block < self.base.num_blocks])
        equal = plan[-1].sources if len(plan) > len(stages) else None  # rows that are equal to the end
        batch = stages[-1].rows
        if self._reads_tokens:
            batch, stages[-1] = self._read_tokens(
                runs, stages[-1], range(len(batch.widths)) if equal is None else equal
            )
        waits = self._line_blocks and all(block.in_steps(stages[-1].segmented) for block in self._line_blocks)
        with in_stages(stages), at_once() if waits else nullcontext():
            states: Tensor = self._encoder(**stages[0].rows.inputs).last_hidden_state
        hidden = states.flatten(0, 1).float()
        if equal is None:
            return batch, hidden
        places = token_places(batch, equal, self.base.device)
        rows = pack_states([batch.widths[source] for source in equal], self.base)
        return rows, hidden.index_select(0, places)

    def _stage_batches(self, runs: Sequence[_Run], stages: Sequence[Stage]) -> list[StageBatch]:
        """Lay out the rows of each stage, and find their masks."""
        rows, made = [row for run in runs for row in run.rows], list[StageBatch]()
        ends = [*(stage.block for stage in stages[1:]), self.base.num_blocks]
        for stage, end in zip(stages, ends, strict=True):
            own, tokens = [rows[number] for number in stage.rows], None
            if made:
                tokens = token_places(made[-1].rows, stage.sources, self.base.device)
                batch = pack_states([len(row.input_ids) for row in own], self.base)
            else:
                batch = self._lay_out(own, self.base)
            names = [name for name, block in self._blocks.items() if stage.block <= block < end]
            segmented = self._segmented(runs, _lengths(runs, stage.rows, batch.widths), names)
            made.append(StageBatch(stage, batch, segmented, tokens))
        return made

    def _read_tokens(
        self, runs: Sequence[_Run], last: StageBatch, sources: Sequence[int]
    ) -> tuple[RowBatch, StageBatch]:
        """Let the last stage compute only what is read of the last block: all tokens, or the first of a row.

        Args:
            runs: The runs of the batch.
            last: The stage.
            sources: For each row of the batch its place in the stage.

        Returns:
            How what is read lies, and the stage.
        """
        alone = [run.reads_first for run in runs for _ in run.rows]
        whole = {source for source, first in zip(sources, alone, strict=True) if not first}
        lengths = [width if row in whole else 1 for row, width in enumerate(last.rows.widths)]
        if sum(lengths) == last.rows.bounds[-1]:
            return last.rows, last
        block = self.base.num_blocks - 1
        names = [name for name, number in self._blocks.items() if number == block]
        segmented = self._segmented(runs, _lengths(runs, last.stage.rows, lengths), names)
        read = ReadTokens(block, read_places(last.rows, lengths, self.base.device), segmented)
        return pack_states(lengths, self.base), replace(last, segmented=replace(last.segmented, read=read))

    def _stages(self, runs: Sequence[_Run]) -> list[Stage]:
        """Find out which rows have to be computed in which blocks."""
        rows = [row for run in runs for row in run.rows]
        equal = number_equal(rows) if self._shares else None
        if equal is None:
            return [Stage(EMBEDDINGS, tuple(range(len(rows))))]
        owners = [(id(run.member), self._first_block(run.member), len(run.rows)) for run in runs]
        by_row = [(member, first) for member, first, count in owners for _ in range(count)]
        return plan_stages(equal, by_row, self.base.num_blocks)

    def _first_block(self, member: Member) -> int:
        """Return the number of the first block that a member changes."""
        if member.signs is not None:
            return EMBEDDINGS
        blocks = (self._blocks[name] for name in member.masks.layers if name in self._blocks)
        return min(blocks, default=self.base.num_blocks)

    def _segmented(
        self, runs: Sequence[_Run], lengths: Sequence[int], names: Sequence[str]
    ) -> SegmentedBatch:
        """Find the masks of runs with these many tokens each, in the layers called `names`."""
        runs = [run for run, length in zip(runs, lengths, strict=True) if length]
        lengths = [length for length in lengths if length]
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
        """Compute the logits of each run: [rows, outputs], or [tokens, labels] for token classification.

        What embeddings have for logits is [rows, hidden].
        """
        pooling = [run for run in runs if run.pooled]
        pooled = iter(self._pool(batch, hidden, pooling) if pooling else ())
        bounds = (*batch.starts, len(hidden))

        def inputs(run: _Run) -> Tensor:
            if run.pooled:
                return next(pooled)
            tokens, activation = hidden[bounds[run.first] : bounds[run.last]], run.member.activation
            return tokens if activation is None else activation(_own_linear(POOLER, run, tokens))

        return [
            _own_linear(CLASSIFIER, run, inputs(run))
            if run.pooling is None
            else _embeddings(batch, run, hidden, run.pooling)
            for run in runs
        ]

    def _pool(self, batch: RowBatch, hidden: Tensor, runs: Sequence[_Run]) -> Sequence[Tensor]:
        """Put each run's rows through W_P and the activation: [rows, hidden]."""
        starts = [batch.starts[row] for run in runs for row in range(run.first, run.last)]
        first_tokens = hidden.index_select(0, torch.tensor(starts, device=hidden.device))
        inputs = torch.split(first_tokens, [len(run.rows) for run in runs])
        by_run = list(zip(runs, inputs, strict=True))
        shared = [(run, one) for run, one in by_run if f"{POOLER}.weight" not in run.member.head]
        of_base = iter(self._pool_by_base(shared) if shared else ())
        outputs = (
            _own_linear(POOLER, run, one) if f"{POOLER}.weight" in run.member.head else next(of_base)
            for run, one in by_run
        )
        return [
            one if run.member.activation is None else run.member.activation(one)
            for run, one in zip(runs, outputs, strict=True)
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
        spec = one.task.spec
        for member in one.task.members:
            yield _Run(MODEL_KINDS[spec.kind].pooled, spec.pooling, member, rows, first)
            first += len(rows)


def _lengths(runs: Sequence[_Run], rows: Sequence[int], widths: Sequence[int]) -> list[int]:
    """Count the places that each run takes up, where some rows of the batch have these many each."""
    owners = np.searchsorted([run.last for run in runs], rows, side="right")
    counts: list[int] = np.bincount(owners, widths, len(runs)).astype(np.int64).tolist()
    return counts


def _signed(batch: TaskBatch) -> bool:
    return any(member.signs is not None for member in batch.task.members)


def _own_linear(name: str, run: _Run, inputs: Tensor) -> Tensor:
    """Compute a layer of the run's own head, whose mask was applied when it was loaded."""
    return F.linear(inputs, run.member.head[f"{name}.weight"], run.member.head[f"{name}.bias"])


def _embeddings(batch: RowBatch, run: _Run, hidden: Tensor, pooling: Pooling) -> Tensor:
    """Pool the tokens of each of a run's rows, padding left out: float32 [rows, hidden]."""
    starts, lengths = batch.starts[run.first : run.last], batch.lengths[run.first : run.last]
    if batch.widths == batch.lengths:
        tokens = hidden[starts[0] : starts[-1] + lengths[-1]]
    else:
        tokens = torch.cat([hidden[a : a + length] for a, length in zip(starts, lengths, strict=True)])
    return pool_tokens(tokens, torch.tensor(lengths, device=hidden.device), pooling)


def _by_row(batch: RowBatch, run: _Run, logits: Floats) -> list[Floats]:
    """Cut a run's logits into those of each row, padding left out: [outputs] or [tokens, labels]."""
    if run.pooled or run.pooling is not None:
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
