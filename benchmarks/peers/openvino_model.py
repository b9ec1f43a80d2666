"""Model in OpenVINO, in fp32, in bf16, or quantised to int8 by NNCF. Needs the extra "bench"."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import Any

import torch

from benchmarks.errors import UnavailableError
from benchmarks.peers.columns import Precision
from benchmarks.peers.exported import (
    HEAD,
    CopyWeights,
    Forward,
    WholeModel,
    exporting,
    module_names,
)
from lab.extras import need
from lab.random_tasks import RandomTask, random_ids
from masking import Base

_DEVICE, _NO_MODULE = "CPU", "openvino_telemetry"
_CALIBRATION = (16, 32)
"""Rows and tokens of the batch that the scales of activations are taken from."""


class OpenVinoModel:
    """The plain model as an OpenVINO graph."""

    def __init__(self, base: Base, task: RandomTask, *, quantised: bool) -> None:
        """Convert the base with the task's unmasked head; quantise it for int8."""
        self._openvino = need_silently("openvino")
        self._core = self._openvino.Core()
        with exporting():
            example = random_ids(base, 2, 8)
            self._model = self._openvino.convert_model(WholeModel(base, task).eval(), example_input=example)
            self._products = _products(self._model, base)
            if quantised:
                self._model = _quantised(self._model, base, [self._products[name] for name in HEAD])

    def compile(self, precision: Precision, threads: int, weights: CopyWeights | None = None) -> Forward:
        """Compile the plain model, or with `weights` a copy, for so many threads.

        Raises:
            UnavailableError: The precision is bf16 and the processor does not multiply it.
        """
        native = "BF16" in self._core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not native:
            raise UnavailableError("OpenVINO has no bf16 on this processor")
        model = self._model.clone()
        if weights is not None:
            self._replace(model, weights)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if native and precision != "fp32" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = self._core.compile_model(model, _DEVICE, settings).create_infer_request()
        return lambda ids: torch.from_numpy(request.infer([ids], share_inputs=True)[0])

    def _replace(self, model: Any, weights: CopyWeights) -> None:
        """Put a copy's weights in the place of the plain ones."""
        nodes = {node.friendly_name: node for node in model.get_ops()}
        for layer, product in self._products.items():
            source = nodes[product].input_value(1)
            while source.get_node().get_type_name() != "Constant":  # conversions and scales of int8
                source = source.get_node().input_value(0)
            masked = weights.of(layer, source.get_node().data)
            source.replace(self._openvino.op.Constant(masked).output(0))


def _products(model: Any, base: Base) -> dict[str, str]:
    """Return the names of the products with masked weights, by layer; quantisation does not change them."""
    nodes = {node.friendly_name: node for node in model.get_ops()}
    products = {}
    for layer, module in module_names(base).items():
        (product,) = nodes[f"self.{module}.weight"].output(0).get_target_inputs()
        products[layer] = product.get_node().friendly_name
    return products


def _quantised(model: Any, base: Base, in_fp32: list[str]) -> Any:
    """Return the model with weights and activations in int8, but for the products `in_fp32`."""
    nncf = need_silently("nncf")
    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # progress bars
        return nncf.quantize(
            model,
            nncf.Dataset([random_ids(base, *_CALIBRATION).numpy()]),
            subset_size=1,
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=in_fp32),
        )


def need_silently(name: str) -> ModuleType:
    """Import a package; OpenVINO and NNCF so that they report nothing to their makers over the network.

    Raises:
        MissingExtraError: It is not installed.
    """
    with _absent(_NO_MODULE):
        return need(name)


@contextmanager
def _absent(module: str) -> Iterator[None]:
    before = {module: sys.modules[module]} if module in sys.modules else {}
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        sys.modules.update(before)
