"""Packing: the token rows of a batch side by side, and attention that keeps them apart.

Packed: all rows one after another, without padding, as one sequence; the encoder gets their positions, and
attention runs row by row, in groups of rows of similar length. Whatever is computed per token (embeddings,
linear layers, LayerNorm) then never sees padding. Padded: for encoders whose attention can't be replaced,
each row filled up to the longest.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from masking.base import Base
from masking.inference.samples import sample_rows
from masking.tasks import Row, collate

_ATTENTION = "attention_by_row"
_SIMILAR = 1.25
_TRIED, _NEAR = (5, 40, 3, 12), 1e-3  # tokens of rows that are tried, and the largest difference


@dataclass(frozen=True)
class RowGroup:
    """Rows whose attention is computed together.

    Attributes:
        rows: Number of rows.
        length: Tokens of the longest.
        tokens: int64 [rows * length], place of each token in the batch; shorter rows repeat their first.
            None where the group is the whole batch in its order.
        real: int64 places in `tokens` that hold no repetition; None where all do.
        allowed: boolean [rows, 1, 1, length], the tokens that may be attended to; None where all may.
    """

    rows: int
    length: int
    tokens: Tensor | None
    real: Tensor | None
    allowed: Tensor | None


@dataclass(frozen=True)
class RowBatch:
    """The rows of a batch, ready for the encoder.

    Attributes:
        inputs: The encoder's keyword arguments, int64 [1, tokens] if packed, [rows, longest] if padded; empty
            where no embeddings are computed.
        lengths: Tokens of each row.
        widths: Places that each row takes up, padding included.
        device: Where it is computed.
    """

    inputs: dict[str, Tensor]
    lengths: tuple[int, ...]
    widths: tuple[int, ...]
    device: torch.device

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Place of each row's first token."""
        return tuple(self.bounds[:-1].tolist())

    @cached_property
    def bounds(self) -> NDArray[np.int64]:
        """Place of each row's first token, then the number of places: int64 [rows + 1]."""
        return np.array((*accumulate(self.widths, initial=0),), np.int64)

    @cached_property
    def groups(self) -> tuple[RowGroup, ...]:
        """The rows in groups for attention, if they are packed."""
        similar = _SIMILAR if self.device.type == "cpu" else float("inf")  # a GPU would rather launch less
        return _group_rows(self.lengths, similar, self.device)


def can_pack(base: Base) -> bool:
    """Tell whether the base's attention can be replaced by attention row by row.

    Of blocks that are not known it is tried: what a model gives its attention beside queries, keys and values
    may be more than is understood here, and its positions may not be those that it is given.
    """
    if not base.encoder._supports_attention_backend:
        return False
    return base.blocks.known is not None or _packs(base)


def _packs(base: Base) -> bool:
    """Compute a few rows packed and padded, and compare."""
    encoder = base.share_encoder()
    longest = min(max(_TRIED), base.max_positions)
    rows = sample_rows(base, [min(length, longest) for length in _TRIED])
    batch, padded = pack_rows(rows, base), pad_rows(rows, base)
    with torch.inference_mode():
        wanted = base.encoder(**padded.inputs).last_hidden_state
        attend_by_row(encoder)
        try:
            with attending(batch):
                found = encoder(**batch.inputs).last_hidden_state[0]
        except Exception:  # whatever a model raises over one long row with positions of its own
            return False
    rows_of = zip(batch.starts, batch.lengths, wanted, strict=True)
    far = max(float((found[a : a + n] - one[:n]).abs().max()) for a, n, one in rows_of)
    return far <= _NEAR * float(wanted.abs().max())


def attend_by_row(encoder: PreTrainedModel) -> None:
    """Replace an encoder's attention by that of row by row; it then computes only inside `attending`."""
    AttentionInterface.register(_ATTENTION, _attend)  # for the process; other encoders don't ask for it
    encoder.set_attn_implementation(_ATTENTION)


def pad_rows(rows: Sequence[Row], base: Base) -> RowBatch:
    """Lay the rows side by side, each filled up to the longest."""
    lengths = tuple(len(row.input_ids) for row in rows)
    inputs = collate(rows, base.tokenizer, base.device)
    return RowBatch(inputs, lengths, (max(lengths),) * len(rows), base.device)


def pack_rows(rows: Sequence[Row], base: Base) -> RowBatch:
    """Lay the rows one after another."""
    lengths = tuple(len(row.input_ids) for row in rows)
    first = base.first_position

    def line(arrays: Sequence[NDArray[np.int32]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays, dtype=np.int64)).unsqueeze(0).to(base.device)

    inputs = {
        "input_ids": line([row.input_ids for row in rows]),
        "position_ids": line([np.arange(first, first + length, dtype=np.int32) for length in lengths]),
    }
    if rows[0].token_type_ids.size:
        inputs["token_type_ids"] = line([row.token_type_ids for row in rows])
    return RowBatch(inputs, lengths, lengths, base.device)


def pack_states(lengths: Sequence[int], base: Base) -> RowBatch:
    """Lay hidden states of rows of so many tokens one after another."""
    return RowBatch({}, tuple(lengths), tuple(lengths), base.device)


def _group_rows(lengths: Sequence[int], similar: float, device: torch.device) -> tuple[RowGroup, ...]:
    """Make groups in which no row is more than `similar` times as long as another."""
    if len(set(lengths)) == 1:
        return (RowGroup(len(lengths), lengths[0], None, None, None),)
    starts = list(accumulate(lengths, initial=0))
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if not groups or lengths[row] > similar * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(row)
    return tuple(
        _group([starts[row] for row in group], [lengths[row] for row in group], device) for group in groups
    )


def _group(starts: Sequence[int], lengths: Sequence[int], device: torch.device) -> RowGroup:
    longest = max(lengths)
    places = torch.arange(longest)
    allowed = places < torch.tensor(lengths).unsqueeze(1)
    tokens = (torch.tensor(starts).unsqueeze(1) + places * allowed).flatten().to(device)
    if bool(allowed.all()):
        return RowGroup(len(lengths), longest, tokens, None, None)
    real = allowed.flatten().nonzero().flatten().to(device)
    return RowGroup(len(lengths), longest, tokens, real, allowed[:, None, None, :].to(device))


_attended: ContextVar[RowBatch] = ContextVar("attended")


@contextmanager
def attending(batch: RowBatch) -> Iterator[None]:
    """Keep the rows of this batch apart in attention, inside the context."""
    token = _attended.set(batch)
    try:
        yield
    finally:
        _attended.reset(token)


def attend_next(batch: RowBatch) -> None:
    """Keep the rows of another batch apart from now on, inside the context of `attending`."""
    _attended.set(batch)


def bounds_of_rows() -> NDArray[np.int64]:
    """Return the first token of each row that is being attended to, then the number of tokens."""
    return _attended.get().bounds


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None = None,
    sliding_window: int | None = None,
) -> Tensor:
    """Compute attention within each row of the batch that is being attended to.

    Args:
        query: [tokens, heads, width of a head].
        key: Likewise.
        value: Likewise.
        scaling: Factor of the products; None for one over the root of the width.
        sliding_window: Distance from which on tokens don't see each other; None for all of a row.

    Returns:
        [tokens, heads, width of a head].
    """
    by_token, groups = (query, key, value), _attended.get().groups
    if groups[0].tokens is None:
        return _attend_group(groups[0], by_token, scaling, sliding_window)
    output = torch.empty_like(query)
    for group in groups:
        assert group.tokens is not None  # only a group that is the whole batch has none
        chosen = [tensor.index_select(0, group.tokens) for tensor in by_token]
        attended, places = _attend_group(group, chosen, scaling, sliding_window), group.tokens
        if group.real is not None:
            attended, places = attended.index_select(0, group.real), places.index_select(0, group.real)
        output.index_copy_(0, places, attended)
    return output


def _attend(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """Call `attend` as transformers calls attention.

    Args:
        query: [1, heads, tokens, width of a head].
        key: Likewise; with fewer heads where several heads of queries share one.
        value: Likewise.
        scaling: See `attend`.
        sliding_window: See `attend`.

    Returns:
        [1, tokens, heads, width of a head], and None for the weights.
    """
    heads = query.shape[1]
    query, key, value = (
        tensor[0].repeat_interleave(heads // tensor.shape[1], 0).transpose(0, 1)
        if tensor.shape[1] < heads
        else tensor[0].transpose(0, 1)
        for tensor in (query, key, value)
    )
    return attend(query, key, value, scaling, sliding_window).unsqueeze(0), None


def _attend_group(
    group: RowGroup, by_token: Sequence[Tensor], scaling: float | None, window: int | None
) -> Tensor:
    """Compute attention of one group: three times [rows * length, heads, width] to one of the same shape."""
    query, key, value = (t.unflatten(0, (group.rows, group.length)).transpose(1, 2) for t in by_token)
    allowed = group.allowed
    if window is not None and window < group.length:
        near = _near(group.length, window, query.device)
        allowed = near if allowed is None else allowed & near
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, scale=scaling)
    return attended.transpose(1, 2).flatten(0, 1)


@lru_cache(maxsize=64)
def _near(length: int, window: int, device: torch.device) -> Tensor:
    """Return which tokens of a row are less than `window` apart: boolean [length, length]."""
    places = torch.arange(length, device=device)
    return (places[:, None] - places).abs() < window
