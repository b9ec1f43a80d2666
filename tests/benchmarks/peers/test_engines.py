"""ONNX Runtime and OpenVINO, as plain models and as copies; the same test for both."""

import sys

import pytest
import torch

from benchmarks.errors import UnavailableError
from benchmarks.peers.candidates import Candidates, Exports
from benchmarks.peers.columns import (
    COLUMNS,
    ONNX,
    ONNX_COPIES,
    OPENVINO,
    OPENVINO_COPIES,
    PRECISIONS,
    TOLERANCES,
    Precision,
    packages,
)
from benchmarks.peers.openvino_model import need_silently
from lab.extras import MissingExtraError
from lab.random_models import random_base
from lab.random_tasks import RandomTask, Workload, random_tasks

_ENGINES = [(ONNX, ONNX_COPIES), (OPENVINO, OPENVINO_COPIES)]


def _need(name: str, precision: Precision) -> None:
    for package in packages(precision, [name]):
        try:
            need_silently(package)
        except MissingExtraError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def exports() -> Exports:
    base = random_base("tiny")
    return Exports(base, RandomTask.create(base, 0, 0.0))


@pytest.mark.parametrize(
    ("plain", "copies", "precision"),
    [(*names, precision) for names in _ENGINES for precision in COLUMNS[names[0]].precisions],
)
def test_plain_models_and_copies(exports: Exports, plain: str, copies: str, precision: Precision) -> None:
    _need(plain, precision)
    if precision != "fp32":
        _skip_without(exports, plain, precision)
    tasks = random_tasks(exports.base, 3, 0.05)[1:]  # none has the head that was exported
    workload = Workload.of_counts(exports.base, tasks, [1, 2], 5)
    longer = Workload.of_counts(exports.base, tasks, [2, 1], 7)
    with torch.inference_mode():
        candidates = Candidates(exports, precision, [plain, copies], 1.0, 1)
        for batch in (workload, longer):
            ready, errors = candidates.ready(batch).checked(exports.exact_logits(batch))
            assert {plain, copies} <= errors.keys(), ready.skipped
            assert all(errors[name] < TOLERANCES[precision] for name in (plain, copies))
            assert precision == "fp32" or all(errors[name] > 1e-5 for name in (plain, copies))
        # the export was not left with a copy's weights
        ready = Candidates(exports, precision, [plain], 1.0, 2).ready(workload)
        assert plain in ready.checked(exports.exact_logits(workload))[1]


def _skip_without(exports: Exports, name: str, precision: Precision) -> None:
    try:
        exports.get(name, precision).compile(precision, 1)
    except UnavailableError as error:
        pytest.skip(str(error))


def test_openvino_reports_nothing_to_its_makers() -> None:
    _need(OPENVINO, "int8")
    assert "openvino_telemetry" not in sys.modules


def test_bf16_that_a_processor_lacks(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    _need(OPENVINO, "bf16")

    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    model = exports.get(OPENVINO, "bf16")
    monkeypatch.setattr(model, "_core", Core())
    with pytest.raises(UnavailableError, match="no bf16 on this processor"):
        model.compile("bf16", 1)


def test_every_precision_is_tried() -> None:
    assert {precision for name, _ in _ENGINES for precision in COLUMNS[name].precisions} == {*PRECISIONS}
