"""Tensors of a task as a model of the Open Inference Protocol: what they are called and hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from masking.tasks.predictions import Floats


@dataclass(frozen=True)
class TensorInfo:
    """Name, datatype and shape of a model's tensor; -1 is a dimension of any size."""

    name: str
    datatype: Literal["BYTES", "FP32"]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Texts:
    """An input tensor of texts.

    Attributes:
        shape: One or two dimensions.
        elements: As many texts as the shape says, in row-major order.
    """

    shape: tuple[int, ...]
    elements: tuple[str, ...]


@dataclass(frozen=True)
class OutputTensor:
    """An output tensor: BYTES (texts) or FP32.

    Attributes:
        name: Its name.
        values: Texts, one dimension, or float32 of any shape.
    """

    name: str
    values: Sequence[str] | Floats

    @property
    def datatype(self) -> Literal["BYTES", "FP32"]:
        """Its datatype in the protocol."""
        return "FP32" if isinstance(self.values, np.ndarray) else "BYTES"

    @property
    def shape(self) -> list[int]:
        """Its dimensions."""
        return list(self.values.shape) if isinstance(self.values, np.ndarray) else [len(self.values)]
