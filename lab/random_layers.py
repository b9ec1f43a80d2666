"""Random masked layers to measure, and their exact results."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masking.kernels import CudaPrecision, Segments, reference_linear


@dataclass(frozen=True)
class Setting:
    """One cell of the table.

    Attributes:
        tasks: Tasks in the batch.
        tokens: Tokens of each.
        rows: Outputs of the layer.
        columns: Inputs of the layer.
        zeros: Share of zeros of each mask.
        threads: Threads of torch and of the kernels.
        device: "cpu" or "cuda".
        precision: How to multiply; on the CPU "fp32".
    """

    tasks: int
    tokens: int
    rows: int
    columns: int
    zeros: float
    threads: int
    device: str = "cpu"
    precision: CudaPrecision = "fp32"


@dataclass(frozen=True)
class Layer:
    """Inputs, weight and bias of a setting, float32 on its device, and its masks."""

    inputs: Tensor
    weight: Tensor
    bias: Tensor
    segments: Segments
    masks: list[NDArray[np.bool_]]

    @classmethod
    def random(cls, setting: Setting) -> "Layer":
        """Draw normal values and independent masks; always the same for a setting."""
        generator = np.random.default_rng(0)
        shape = setting.rows, setting.columns
        masks = [generator.random(shape, np.float32) >= setting.zeros for _ in range(setting.tasks)]
        sizes = (setting.tasks * setting.tokens, setting.columns), shape, (setting.rows,)
        inputs, weight, bias = (
            torch.from_numpy(generator.standard_normal(one, np.float32)).to(setting.device) for one in sizes
        )
        return cls(inputs, weight, bias, Segments.of_lengths([setting.tokens] * setting.tasks), masks)

    @cached_property
    def exact(self) -> Tensor:
        """The outputs in float64."""
        masks = [torch.from_numpy(mask).to(self.inputs.device) for mask in self.masks]
        doubles = self.inputs.double(), self.weight.double(), self.bias.double()
        return reference_linear(*doubles, self.segments, masks)

    def largest_error(self, outputs: Tensor) -> float:
        """Return the largest error against float64, relative to the largest output."""
        return float((outputs - self.exact).abs().max() / self.exact.abs().max())
