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
from masking.kernels import Segments
from masking.kernels.cpu.lines import Finish, LineLayer, LineWeight, line_products
from masking.tasks import Row, collate

LARGEST_ERROR = 0.15
"""Error above which a layer is not computed in 8 bits; those of trained encoders were 0.01 to 0.05."""
_ROWS, _TOKENS = 4, 32


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
            errors[name] = _error(weights[name], inputs[0].flatten(0, -2), exact.flatten(0, -2))

        return hook

    for name in weights:
        encoder.get_submodule(name).register_forward_hook(observe(name))
    with torch.inference_mode():
        encoder(**collate(sample_rows(base), base.tokenizer, base.device))
    return errors


def sample_rows(base: Base, count: int = _ROWS) -> list[Row]:
    """Return rows of tokens drawn from the vocabulary, always the same; errors are measured on a few."""
    tokenizer = base.tokenizer
    words = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    length = min(_TOKENS, base.max_positions) - 2
    drawn = torch.randint(len(words), (count, length), generator=torch.Generator().manual_seed(0))
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    return [Row.of([first, *(words[place] for place in row), last]) for row in drawn.tolist()]


def _error(weight: LineWeight, inputs: Tensor, exact: Tensor) -> float:
    layer, segments = LineLayer(weight, [None]), Segments((0, len(inputs)))
    (rounded,) = line_products(inputs.bfloat16().contiguous(), [layer], segments, Finish.FLOAT32)
    spread = exact.std(0, correction=0)
    lost = (rounded - exact).square().mean(0).sqrt() / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    return float(lost.median())
