"""Blocks: a base's transformer blocks, with masked products of float32, bfloat16 or 8-bit integers.

The same computation as the block of transformers whose place one takes: attention and feed-forward, each with
its residual and LayerNorm after it. In bf16 and int8 a value is rounded once between two products, to
bfloat16; sums, GELU, residual and LayerNorm are float32.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.activations import ACT2FN

from masking.architectures import LayerNames
from masking.inference.packing import attend, bounds_of_rows
from masking.inference.segmented import SegmentedBatch, computed
from masking.kernels.cpu.lines import Finish, at_once, attend_rows, catch_up
from masking.kernels.cpu.processor import lacks

_FEW_TOKENS = 64  # with more, a block takes longer than what the steps of several at once save


class LineBlock(nn.Module):
    """One block, on packed rows; called as transformers calls its own."""

    def __init__(self, block: nn.Module, config: PretrainedConfig, table: LayerNames, number: int) -> None:
        """Take a block's LayerNorms and the names of its linear layers.

        Args:
            block: The block of the base.
            config: The base's.
            table: The row of names that fits the base.
            number: The block's number.
        """
        super().__init__()
        self._number = number
        self._layers = names = table.in_block(number)
        self._attention_inputs, (self._attention_output, self._intermediate, self._output) = (
            names[:3],
            names[3:],
        )
        self._attention_norm, self._output_norm = _norms(block, table)
        path = f"{table.blocks}.{number}"
        self._norm_names = f"{path}.{table.attention_norm}", f"{path}.{table.output_norm}"
        self._heads = int(config.num_attention_heads)
        self._attends_by_kernel = not lacks("bf16") and int(config.hidden_size) // self._heads % 2 == 0
        activation = getattr(config, table.activation)
        self._activation = None if activation == "gelu" else ACT2FN[activation]

    def forward(self, hidden_states: Tensor, *_others: Any, **_named: Any) -> Tensor:
        """Compute [1, tokens, width] of the block's inputs: float32 in fp32 and before the first block."""
        batch, hidden = computed(), hidden_states[0].to(computed().dtype)
        with at_once() if self.in_steps(batch) else nullcontext():
            attended = self._attend(*batch.products(self._attention_inputs, hidden))
            if batch.read is not None and batch.read.block == self._number:
                catch_up()
                hidden, attended = (one.index_select(0, batch.read.places) for one in (hidden, attended))
                batch = batch.read.segmented
            (sums,) = batch.products((self._attention_output,), attended, Finish.FLOAT32)
            hidden = batch.normalise(self._norm_names[0], sums, hidden, self._attention_norm)
            (sums,) = batch.products((self._output,), self._activated(batch, hidden), Finish.FLOAT32)
            hidden = batch.normalise(self._norm_names[1], sums, hidden, self._output_norm)
            if len(hidden) > _FEW_TOKENS:
                catch_up()
        return hidden.unsqueeze(0)

    def in_steps(self, batch: SegmentedBatch) -> bool:
        """Tell whether the kernel computes all of the block but attention, in one dtype throughout."""
        if batch.signed is not None or self._activation is not None:
            return False
        precisions = {batch.weights.lines[name].precision for name in self._layers}
        return precisions == {"fp32"} if batch.dtype == torch.float32 else "fp32" not in precisions

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Compute attention within each row: three times [tokens, width] to one of the same shape."""
        if query.dtype == torch.bfloat16 and self._attends_by_kernel:
            return attend_rows(query, key, value, self._heads, bounds_of_rows())
        catch_up()
        return attend(*(one.unflatten(1, (self._heads, -1)) for one in (query, key, value))).flatten(1)

    def _activated(self, batch: SegmentedBatch, hidden: Tensor) -> Tensor:
        """Compute the feed-forward's first layer and its activation."""
        names = (self._intermediate,)
        if self._activation is None:
            return batch.products(names, hidden, Finish.GELU)[0]
        activated: Tensor = self._activation(batch.products(names, hidden, Finish.FLOAT32)[0])
        return activated.to(batch.dtype)


def _norms(block: nn.Module, table: LayerNames) -> list[nn.LayerNorm]:
    return [block.get_submodule(name) for name in (table.attention_norm, table.output_norm)]  # type: ignore[misc]
