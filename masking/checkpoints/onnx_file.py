"""ONNX: an exported model as one file for ONNX Runtime, by torch's exporter. Needs the extra ``onnx``."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from masking.base import Tokenizer
from masking.errors import ExportError

FILE = "model.onnx"
_NEEDED = ("onnxscript", "onnx")
_TEXTS = ("a longer text", "a text")
_EMBEDDED = 2 * 1024**3 - 2**20
"""Bytes from which on weights are in a file of their own, as a protocol buffer has 2 GiB at most."""


def check_onnx() -> None:
    """Make sure that the exporter can work.

    Raises:
        ExportError: A package is missing.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ExportError(
            f"an ONNX file needs {' and '.join(missing)}, not installed here: pip install 'maskserve[onnx]'"
        )


def write_onnx(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a model beside its other files, as ``model.onnx``.

    Inputs are what the tokenizer gives, int64 [rows, tokens], or [rows, choices, tokens] for multiple choice;
    the output is ``logits``, or ``last_hidden_state`` of an encoder alone. All sizes are free.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer.
        folder: Where its other files are.

    Raises:
        ExportError: A package is missing, torch can't export the model, or the file can't be written.
    """
    check_onnx()
    module = _Called(model, tokenizer)
    inputs = module.example()
    shape = dict.fromkeys(range(inputs[0].ndim), torch.export.Dim.DYNAMIC)
    try:
        with _silent():
            torch.onnx.export(
                module,
                inputs,
                folder / FILE,
                input_names=module.names,
                output_names=[module.output],
                dynamic_shapes=((shape,) * len(inputs),),
                dynamo=True,
                external_data=sum(one.nbytes for one in model.parameters()) > _EMBEDDED,
                verbose=False,
            )
    except OSError as error:
        raise ExportError(f"{folder / FILE} can't be written: {error.strerror or error}") from error
    except Exception as error:  # the exporter raises whatever it meets
        raise ExportError(f"torch can't export a {type(model).__name__}: {type(error).__name__}") from error


class _Called(nn.Module):
    """A model that takes the tokenizer's tensors in their order, and gives one."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model = model
        self._encoded = dict(tokenizer(list(_TEXTS), padding=True, return_tensors="pt"))
        self.names = [name for name in tokenizer.model_input_names if name in self._encoded]
        self.output = "last_hidden_state" if model.base_model is model else "logits"

    def example(self) -> tuple[Tensor, ...]:
        """Return inputs of two rows, of multiple choice of two choices each."""
        tensors = tuple(self._encoded[name] for name in self.names)
        if type(self.model).__name__.endswith("ForMultipleChoice"):
            return tuple(one.unsqueeze(0).repeat(2, 1, 1) for one in tensors)
        return tensors

    def forward(self, *tensors: Tensor) -> Any:
        return self.model(**dict(zip(self.names, tensors, strict=True)))[self.output]


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter from telling how it proceeds."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(before)
