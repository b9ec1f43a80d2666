"""Cost model: which way of computing a masked layer is the fastest here, measured once per process.

Two ways compete for each segment. The kernel multiplies under the mask and costs the same at any density.
Folding first makes W * M, at a cost per weight, and hands it to torch's matrix product. So folding is faster
only where torch's product is faster than the kernel and the segment is long enough to pay for making W * M. A
wrong choice of the kernel costs a few per cent, a wrong choice of folding may double the time; so folding has
to be expected to win by a margin.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from masking.binarize import apply_mask
from masking.kernels.cpu import launch as native
from masking.kernels.layouts import BitMask, StripMask
from masking.kernels.segments import Segments

_ROWS = _COLUMNS = 384
_TOKENS, _RUNS, _MARGIN = 256, 9, 1.1


@dataclass(frozen=True)
class Costs:
    """Costs on this machine, in seconds.

    Attributes:
        kernel: The kernel, per weight and token.
        torch: Torch's matrix product, per weight and token.
        fold: Making W * M from strips, per weight.
    """

    kernel: float
    torch: float
    fold: float

    def kernel_wins(self, tokens: int) -> bool:
        """Tell whether to give a segment of `tokens` to the kernel rather than to fold its weight."""
        return self.kernel * tokens <= _MARGIN * (self.fold + self.torch * tokens)

    def kernel_up_to(self) -> float:
        """Return the most tokens of a segment that are given to the kernel; infinite where all are."""
        lost = self.kernel - _MARGIN * self.torch
        return math.inf if lost <= 0 else _MARGIN * self.fold / lost

    def as_dict(self) -> dict[str, float]:
        """Return the costs by name, for a metrics page."""
        return asdict(self)


def costs() -> Costs:
    """Return the costs with torch's present number of threads; the first call measures them."""
    return _measure(torch.get_num_threads())


@lru_cache(maxsize=8)
def _measure(threads: int) -> Costs:
    """Measure the costs: in some 20 ms, and what loading the kernels takes."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(_ROWS, _COLUMNS, generator=generator)
    inputs = torch.randn(_TOKENS, _COLUMNS, generator=generator)
    mask = StripMask.of(BitMask(np.full((_ROWS, _COLUMNS // 8), 0xF7, np.uint8), _COLUMNS))
    segments = Segments((0, _TOKENS))
    kernel, dense, fold = fastest(
        [
            lambda: native.masked_product(inputs, weight, None, segments, [mask.place]),
            lambda: F.linear(inputs, weight),
            lambda: apply_mask(weight, mask.expand()),
        ]
    )
    return Costs(kernel / weight.numel() / _TOKENS, dense / weight.numel() / _TOKENS, fold / weight.numel())


def fastest(candidates: Sequence[Callable[[], object]], seconds: float = math.inf) -> list[float]:
    """Time each candidate's fastest run, in seconds; they take turns, so all meet the same disturbances.

    Args:
        candidates: What to run, some times each.
        seconds: When this time is over, no further turn is begun; there is one at least.
    """
    best = [math.inf] * len(candidates)
    end = time.perf_counter() + seconds
    for _ in range(_RUNS):
        for index, run in enumerate(candidates):
            start = time.perf_counter()
            run()
            best[index] = min(best[index], time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return best
