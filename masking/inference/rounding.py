"""Rounding errors: what the layers of a base lose in 8 bits, measured on rows of its own vocabulary.

A token's 256 levels lie evenly between its least and its largest value, so one outlying input leaves few of
them to all the others, and a layer may lose much of what tells tokens apart. Which layers do is a matter of
the base, not of a task: no user's data are needed to find them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from masking.base import Base
from masking.inference.samples import sample_rows
from masking.kernels import Segments
from masking.kernels.cpu.lines import Finish, LineLayer, LineWeight, line_products
from masking.tasks import collate

LARGEST_ERROR = 0.15
"""Error above which a layer is not computed in 8 bits; those of trained encoders were 0.01 to 0.05."""


def rounding_errors(base: Base, weights: Mapping[str, LineWeight]) -> dict[str, float]:
    """Measure the error of layers in 8 bits, each on its exact inputs.

    Args:
        base: The base, on a CPU.
        weights: By name, layers of it without masks.

    Returns:
        By name, the median over output rows of the error's RMS over the output's standard deviation, both
        over the tokens of a few sample rows.
    """
    encoder, errors = base.share_encoder(), dict[str, float]()

    def observe(name: str) -> Any:
        def hook(_layer: nn.Module, inputs: tuple[Tensor], exact: Tensor) -> None:
            error = _error(weights[name], inputs[0].flatten(0, -2), exact.flatten(0, -2))
            errors[name] = max(error, errors.get(name, 0.0))  # shared layers are computed more than once

        return hook

    for name in weights:
        encoder.get_submodule(name).register_forward_hook(observe(name))
    with torch.inference_mode():
        encoder(**collate(sample_rows(base), base.tokenizer, base.device))
    return errors


def _error(weight: LineWeight, inputs: Tensor, exact: Tensor) -> float:
    layer, segments = LineLayer(weight, [None]), Segments((0, len(inputs)))
    (rounded,) = line_products(inputs.bfloat16().contiguous(), [layer], segments, Finish.FLOAT32)
    spread = exact.std(0, correction=0)
    lost = (rounded - exact).square().mean(0).sqrt() / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    return float(lost.median())
