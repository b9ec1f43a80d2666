"""Sign step: what follows the products of layers with signs, W x + a (2 B x - sum x) + bias in one pass.

Needs numba; `masking.kernels.cpu.lines.sign_launch` is the only caller, and does all checking.
"""

from enum import IntEnum

import numpy as np
from numba import carray, cfunc, njit, types

from masking.kernels.cpu.cache import CACHED
from masking.kernels.cpu.lines.elementwise import FLOAT32, finish, floats
from masking.kernels.cpu.llvm import fetch_add, field_of

_INT, _TOKENS, _TWO = 8, 8, np.float32(2)


class SignJob(IntEnum):
    """What each int64 of a job is. Addresses are of contiguous memory."""

    TOKENS = 0
    ROWS = 1
    PLAIN = 2
    """Address of float32 [tokens, rows]: W x; overwritten."""
    KEPT = 3
    """Address of float32 [tokens, rows]: B x."""
    SUMS = 4
    """Address of float32 [tokens]: sum x."""
    OWNERS = 5
    """Address of int64 [tokens]: the segment of each token."""
    NUMBERS = 6
    """Address of int64 [segments, 2]: addresses of a segment's scales and bias, float32 [rows]."""
    OUTPUTS = 7
    """Address of [tokens, rows], bfloat16 or float32."""
    FINISH = 8
    """See `elementwise.finish`."""
    NEXT_TOKEN = 9


@njit(nogil=True, fastmath=True, cache=CACHED)
def _sign_token(job: int, token: int) -> None:
    rows, kind = field_of(job, SignJob.ROWS), field_of(job, SignJob.FINISH)
    moved, size = 4 * rows * token, rows * (4 if kind >= FLOAT32 else 2)
    numbers = field_of(job, SignJob.NUMBERS) + 2 * _INT * field_of(field_of(job, SignJob.OWNERS), token)
    sums = carray(floats(field_of(job, SignJob.PLAIN) + moved), (rows,))
    kept = carray(floats(field_of(job, SignJob.KEPT) + moved), (rows,))
    scales = carray(floats(field_of(numbers, 0)), (rows,))
    total = carray(floats(field_of(job, SignJob.SUMS) + 4 * token), (1,))[0]
    for row in range(rows):
        sums[row] += scales[row] * (_TWO * kept[row] - total)
    outputs = field_of(job, SignJob.OUTPUTS) + size * token
    finish(kind, field_of(job, SignJob.PLAIN) + moved, rows, 1, rows, field_of(numbers, 1), outputs, size)


@njit(nogil=True, cache=CACHED)
def sign(job: int) -> None:
    """One thread's share of the job at an address."""
    tokens = field_of(job, SignJob.TOKENS)
    first = fetch_add(job + _INT * SignJob.NEXT_TOKEN, _TOKENS)
    while first < tokens:
        for token in range(first, min(first + _TOKENS, tokens)):
            _sign_token(job, token)
        first = fetch_add(job + _INT * SignJob.NEXT_TOKEN, _TOKENS)


@cfunc(types.void(types.intp), nopython=True, cache=CACHED)
def sign_function(job: int) -> None:
    """`sign` as a C function void(int64 *)."""
    sign(job)
