"""Launch of the Triton kernel: everything that the kernel does not check itself is checked or made here.

Importing this module does not import Triton: the first use does, and `available` tells whether it can. A
kernel is compiled and its tile chosen by measurement on the first call with a new combination of layer shape,
precision and rough size of the batch; both are kept on disk.

Where the tiles of tokens are is copied to the device once per batch and kept with its `Segments`; where the
masks are, too, if the caller has `mask_addresses` do it for all layers at once. A call does not wait for the
device, so it can be captured in a CUDA graph, provided that

  the same call was made once before, with `addresses`: nothing can be tuned or copied while capturing;
  all of its arguments outlive the graph, the `Segments` object and the masks among them.

To replay a graph for other tasks, copy their addresses into the tensor that was captured.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from masking.kernels.layouts import LinearMask, WordMask
from masking.kernels.segments import Segments, tile_table

CudaPrecision: TypeAlias = Literal["fp32", "tf32x3", "tf32", "bf16"]
"""How the Triton kernel multiplies; it adds in float32.

  fp32    as IEEE float32
  tf32x3  by three products in tf32 on tensor cores; about as exact as float32
  tf32    in tf32 on tensor cores: 10 bits of fraction
  bf16    in bfloat16 on tensor cores: 7 bits of fraction
"""

_TRITON_NAMES = {"fp32": "ieee", "tf32x3": "tf32x3", "tf32": "tf32"}
_FEWEST_TOKENS, _MOST_TOKENS = 8, 128
_MOST_LOAD = 256


@cache
def available() -> bool:
    """Tell whether the kernel can be used: Triton is installed."""
    return importlib.util.find_spec("triton") is not None


@cache
def _kernels() -> ModuleType:
    from masking.kernels.cuda import kernel as triton_kernels  # noqa: PLC0415 (Triton is optional and slow to import)

    return triton_kernels


def mask_addresses(layers: Sequence[Sequence[LinearMask | None]], device: torch.device) -> Tensor:
    """Return where the masks of a batch's segments are, for any number of layers in one copy.

    Args:
        layers: Per layer, per segment its mask, which must outlive the use of the result.
        device: Where they are.

    Returns:
        int64 [layers, segments] on `device`; 0 where a mask is None or in a layout that is not the kernel's.

    Raises:
        ValueError: A mask is on another device, or a CUDA graph is being captured.
    """
    table = [[mask.address if isinstance(mask, WordMask) else 0 for mask in masks] for masks in layers]
    addresses = _to_device(torch.tensor(table, dtype=torch.int64), device)
    on = {mask.words.device for masks in layers for mask in masks if isinstance(mask, WordMask)}
    if not on <= {addresses.device}:
        raise ValueError(f"the masks are on {', '.join(map(str, on))}, not on {addresses.device}")
    return addresses


def masked_product(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    segments: Segments,
    addresses: Tensor,
    precision: CudaPrecision,
) -> Tensor:
    """Compute inputs @ (W * M)^T + bias, M being that of each token's segment.

    Args:
        inputs: float32 or bfloat16 [tokens, columns], contiguous, on a CUDA device.
        weight: float32 or bfloat16 [rows, columns], contiguous, on the same device; not written to.
        bias: [rows], or None.
        segments: They cover `tokens`.
        addresses: int64 [segments]: a row of `mask_addresses`.
        precision: How to multiply; bfloat16 inputs are multiplied as such whatever it says.

    Returns:
        [tokens, rows], in the dtype of `inputs`.

    Raises:
        ValueError: A CUDA graph is being captured, and this is the first call with these segments.
    """
    (tokens, columns), rows = inputs.shape, weight.shape[0]
    tiles = segments.keep(("tiles", inputs.device), lambda: _tiles(segments, inputs.device))
    outputs = torch.empty(tokens, rows, dtype=inputs.dtype, device=inputs.device)
    factors = inputs.to(torch.bfloat16) if precision == "bf16" else inputs
    is_bfloat16 = factors.dtype == torch.bfloat16
    partials = torch.empty(tiles.partial_sums(rows), device=inputs.device)

    def programs(chosen: dict[str, int]) -> tuple[int]:
        blocks = -(-rows // chosen["BLOCK_ROWS"]) * -(-tiles.used // chosen["TILES"])
        return (blocks * chosen["SPLITS"],)

    with torch.cuda.device_of(inputs):
        _kernels().tuned_multiply_tiles[programs](
            *(factors, weight, None if bias is None else bias.contiguous(), outputs),
            *(tiles.rows, addresses.contiguous(), _tables(inputs.device), partials, tiles.counters),
            tile_count=tiles.used,
            rows=rows,
            columns=columns,
            load=tiles.load,
            PRECISION="tf32" if is_bfloat16 else _TRITON_NAMES[precision],  # only float32 heeds it
            PAIRS=is_bfloat16 and inputs.is_cuda,
            BLOCK_TOKENS=tiles.tokens,
            WHOLE_STEPS=columns % _kernels().WHOLE_COLUMNS == 0,
            enable_fp_fusion=True,
        )
    return outputs


class _Tiles(NamedTuple):
    """A batch's tiles of tokens on the device.

    Attributes:
        rows: int32 [tiles, 3], as the kernel reads them, with empty tiles up to a multiple of its most.
        used: Tiles that are not empty.
        counters: int32, zeros that the kernel counts with.
        tokens: Most tokens of a tile.
        load: Number of tiles, rounded down to a power of 4; what the choice of a kernel depends on.
    """

    rows: Tensor
    used: int
    counters: Tensor
    tokens: int
    load: int

    def partial_sums(self, rows: int) -> int:
        """Return how many the kernel leaves in memory for a weight of so many rows."""
        kernels = _kernels()
        splits: int = kernels.most_splits(rows, self.tokens, self.load)
        whole_rows: int = -(-rows // kernels.MOST_BLOCK_ROWS) * kernels.MOST_BLOCK_ROWS
        return splits * whole_rows * self.tokens * len(self.rows) if splits > 1 else 0


def _tiles(segments: Segments, device: torch.device) -> _Tiles:
    """Divide segments into tiles as large as the average, within what the kernel is compiled for."""
    kernels = _kernels()
    average = -(-segments.tokens // len(segments))
    tokens = min(max(1 << (average - 1).bit_length(), _FEWEST_TOKENS), _MOST_TOKENS)
    table = tile_table(segments, tokens)
    rows = np.zeros((-(-table.count // kernels.MOST_TILES) * kernels.MOST_TILES, 3), np.int32)
    rows[: table.count] = table.rows
    load = min(1 << (table.count.bit_length() - 1) // 2 * 2, _MOST_LOAD)
    on_device = _to_device(torch.from_numpy(rows), device)
    counters = torch.zeros(kernels.COUNTERS, dtype=torch.int32, device=device)
    return _Tiles(on_device, table.count, counters, tokens, load)


@cache
def _tables(device: torch.device) -> Tensor:
    return _to_device(torch.tensor(_kernels().TABLES).to(torch.int32), device)


def _to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a copy that the host does not wait for."""
    if device.type != "cuda":
        return values
    if torch.cuda.is_current_stream_capturing():
        raise ValueError("nothing can be copied into a CUDA graph: make the call once before, with addresses")
    return values.pin_memory().to(device, non_blocking=True)
