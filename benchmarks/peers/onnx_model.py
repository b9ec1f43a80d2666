"""Model in ONNX Runtime, in fp32 or quantised to int8 dynamically. Needs the extra "bench"."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.peers.columns import Precision
from benchmarks.peers.exported import HEAD, Array, CopyWeights, Forward, WholeModel, exporting, module_names
from lab.extras import need
from lab.random_tasks import RandomTask, random_ids
from masking import Base

_OPSET = 17


class OnnxModel:
    """The plain model as an ONNX graph in memory."""

    def __init__(self, base: Base, task: RandomTask, *, quantised: bool) -> None:
        """Export the base with the task's unmasked head; quantise it for int8."""
        onnx, modules = need("onnx"), module_names(base)
        with TemporaryDirectory() as folder, exporting():
            path = Path(folder) / "model.onnx"
            _export(base, task, path)
            if quantised:
                path = _quantised(path, [modules[name] for name in HEAD])
            self._model = onnx.load(path)
        self._initializers = {one.name: one for one in self._model.graph.initializer}
        nodes = {node.name: node for node in self._model.graph.node}
        self._weights = {name: _weight_of(nodes, module) for name, module in modules.items()}
        self._plain: dict[str, Array] = {}

    def compile(self, precision: Precision, threads: int, weights: CopyWeights | None = None) -> Forward:
        """Make a session of the plain model, or with `weights` of a copy, in the precision of the graph.

        Its threads may spin while it runs, not while others do.
        """
        runtime = need("onnxruntime")
        self._write(weights)
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = runtime.InferenceSession(
            self._model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return lambda ids: torch.from_numpy(session.run(None, {"input_ids": ids})[0])

    def _write(self, weights: CopyWeights | None) -> None:
        """Write a copy's weights, or the plain ones, over those in the graph."""
        helper = need("onnx.numpy_helper")
        for layer, (name, turned) in self._weights.items():
            place = self._initializers[name]
            plain = self._plain.setdefault(layer, helper.to_array(place).copy())
            if weights is not None:
                masked = weights.of(layer, plain.T if turned else plain)
                plain = (masked.T if turned else masked).copy()
            place.CopyFrom(helper.from_array(plain, place.name))


def _export(base: Base, task: RandomTask, path: Path) -> None:
    torch.onnx.export(
        WholeModel(base, task).eval(),
        (random_ids(base, 2, 8),),
        path,
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_axes={"input_ids": {0: "rows", 1: "tokens"}},
        opset_version=_OPSET,
        dynamo=False,  # the other exporter needs onnxscript, and leaves transposed weights unfolded
    )


def _weight_of(nodes: dict[str, Any], module: str) -> tuple[str, bool]:
    """Return the name of a module's weight in the graph, and whether it is there transposed."""
    scope = _scope(module)
    names = (f"/{scope}/{kind}" for kind in ("MatMul", "MatMul_quant", "Gemm_MatMul", "Gemm"))
    product = next(nodes[name] for name in names if name in nodes)
    return product.input[1], product.op_type != "Gemm"


def _scope(module: str) -> str:
    """Return how the exporter writes a module's name: a/b.0/c."""
    return re.sub(r"\.(?=\D)", "/", module)


def _quantised(path: Path, in_fp32: list[str]) -> Path:
    """Write the model with weights in int8, but for the modules `in_fp32`."""
    quantization, out = need("onnxruntime.quantization"), path.with_name("int8.onnx")
    quantization.quantize_dynamic(
        path,
        out,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=[f"/{_scope(module)}/Gemm_MatMul" for module in in_fp32],
    )
    return out
