"""Sign step launcher: everything that the step takes on trust is checked or made here."""

from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from masking.kernels.cpu.launch import address_of
from masking.kernels.cpu.lines.launch import Finish
from masking.kernels.cpu.openmp import Runner, runner
from masking.kernels.segments import Segments


@cache
def _kernel() -> ModuleType:
    from masking.kernels.cpu.lines import signs  # noqa: PLC0415 (numba is optional and slow to import)

    return signs


@cache
def _runner() -> Runner:
    return runner(_kernel().sign_function.address)


def add_signs(
    products: tuple[Tensor, Tensor, Tensor],
    scales: Sequence[Tensor],
    biases: Sequence[Tensor],
    segments: Segments,
    finish: Finish,
) -> Tensor:
    """Compute W x + a (2 B x - sum x) + bias.

    Args:
        products: W x, float32 [tokens, rows], which is overwritten; B x likewise; sum x, float32 [tokens, 1].
        scales: a of each segment, float32 [rows].
        biases: Likewise.
        segments: They cover `tokens`.
        finish: What becomes of it.

    Returns:
        [tokens, rows], bfloat16 or float32.

    Raises:
        ValueError: The tensors do not belong together.
    """
    plain, kept, sums = products
    tokens, rows = plain.shape
    numbers = [*scales, *biases]
    if (
        kept.shape != plain.shape
        or sums.shape != (tokens, 1)
        or segments.tokens != tokens
        or {len(scales), len(biases)} != {len(segments)}
        or any(one.shape != (rows,) for one in numbers)
        or not all(
            one.dtype == torch.float32 and one.is_cpu and one.is_contiguous() for one in (*products, *numbers)
        )
    ):
        raise ValueError(f"products {tuple(plain.shape)} and numbers do not belong together ({segments})")
    outputs = torch.empty(tokens, rows, dtype=torch.float32 if finish >= Finish.FLOAT32 else torch.bfloat16)
    owners = segments.owners()
    pairs = zip(scales, biases, strict=True)
    places = np.array([[scale.data_ptr(), bias.data_ptr()] for scale, bias in pairs], np.int64)
    fields = _kernel().SignJob
    job = np.zeros(len(fields), np.int64)
    job[fields.TOKENS], job[fields.ROWS], job[fields.FINISH] = tokens, rows, finish
    job[fields.PLAIN], job[fields.KEPT] = plain.data_ptr(), kept.data_ptr()
    job[fields.SUMS], job[fields.OUTPUTS] = sums.data_ptr(), outputs.data_ptr()
    job[fields.OWNERS], job[fields.NUMBERS] = address_of(owners), address_of(places)
    _runner()(address_of(job), torch.get_num_threads())
    return outputs
