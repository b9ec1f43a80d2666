from functools import partial

import pytest
import torch
from torch import Tensor

from benchmarks.errors import WrongResultError
from benchmarks.peers import candidates
from benchmarks.peers.candidates import Candidates, Exact, Exports, Ready
from benchmarks.peers.columns import (
    AUTOCAST,
    COPIES,
    KERNEL,
    NAIVE,
    ONNX,
    ONNX_COPIES,
    OPENVINO_COPIES,
    OURS,
    PEFT,
    POLYLORA,
    REFERENCE,
    ROAD,
    TORCH,
)
from lab.random_models import random_base
from lab.random_tasks import RandomTask, Workload, random_tasks
from masking.kernels import available


@pytest.fixture(scope="module")
def exports() -> Exports:
    base = random_base("tiny")
    return Exports(base, RandomTask.create(base, 0, 0.0))


@pytest.fixture(autouse=True)
def _inference() -> object:
    with torch.inference_mode():
        yield


def _workload(exports: Exports) -> Workload:
    return Workload.of_counts(exports.base, random_tasks(exports.base, 3, 0.05), [1, 2, 1], 5)


def test_only_the_wanted_peers_run(exports: Exports) -> None:
    ready = Candidates(exports, "fp32", [TORCH, NAIVE], 1.0, 1).ready(_workload(exports))
    assert list(ready.runs) == [TORCH, OURS, NAIVE]
    assert not ready.skipped


def test_copies_share_the_room_and_what_has_none_says_so(exports: Exports) -> None:
    workload, wanted = _workload(exports), [TORCH, COPIES, ONNX_COPIES, OPENVINO_COPIES]
    some = 4 * 3 * exports.base.info.parameters / 1e9  # for torch's copies, which share, and no others
    ready = Candidates(exports, "fp32", wanted, some, 1).ready(workload)
    assert list(ready.runs) == [TORCH, OURS, COPIES]
    assert ready.skipped == dict.fromkeys([ONNX_COPIES, OPENVINO_COPIES], "skipped: 0.0 GB")
    assert COPIES in Candidates(exports, "fp32", wanted, 0.0, 1).ready(workload).skipped


@pytest.mark.parametrize("name", [KERNEL, PEFT, POLYLORA, ROAD])
def test_peers_answer_every_row(exports: Exports, name: str) -> None:
    if name == KERNEL and not available():
        pytest.skip("needs numba")
    ready = Candidates(exports, "fp32", [name], 1.0, 1).ready(_workload(exports))
    assert ready.runs[name]().shape == (4, 2)


def test_torch_in_fp32_is_always_measured(exports: Exports) -> None:
    ready = Candidates(exports, "fp32", [NAIVE], 1.0, 1).ready(_workload(exports))
    assert list(ready.runs) == [REFERENCE, OURS, NAIVE]


def test_wrong_answers_are_not_timed(exports: Exports) -> None:
    workload = _workload(exports)
    ready = Candidates(exports, "fp32", [], 1.0, 1).ready(workload)
    wrong = Exact(ready.runs[OURS]() + 1e-3, ready.runs[REFERENCE]())
    with pytest.raises(WrongResultError, match="ours"):
        ready.checked(wrong)


def test_what_computes_the_plain_model_is_checked_against_it(exports: Exports) -> None:
    wanted = [TORCH, *[KERNEL] * available()]
    workload = _workload(exports)
    ready = Candidates(exports, "fp32", wanted, 1.0, 1).ready(workload)
    _, errors = ready.checked(exports.exact_logits(workload))
    assert errors.keys() == {OURS, *wanted}


def test_bf16_in_torch(exports: Exports) -> None:
    wanted = [TORCH, AUTOCAST, COPIES, NAIVE]
    workload = _workload(exports)
    ready = Candidates(exports, "bf16", wanted, 1.0, 1).ready(workload)
    _, errors = ready.checked(exports.exact_logits(workload))
    assert errors.keys() - {OURS} == {REFERENCE, *wanted}
    assert errors[REFERENCE] < 1e-5 and all(1e-4 < errors[name] < 0.05 for name in wanted)
    assert ready.runs[TORCH]().dtype == ready.runs[COPIES]().dtype == torch.bfloat16


def _ready(**runs: Tensor) -> Ready:
    return Ready("bf16", {name: partial(torch.clone, logits) for name, logits in runs.items()}, {})


def test_an_engine_that_is_too_wrong_is_left_out(exports: Exports) -> None:
    right = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    left, errors = _ready(**{TORCH: 1.01 * right, ONNX: 1.2 * right}).checked(Exact(right, right))
    assert list(left.runs) == [TORCH] and errors == {TORCH: pytest.approx(0.01)}
    assert left.skipped == {ONNX: "skipped: error 2.0e-01"}


def test_ours_is_left_out_where_it_computed_in_another_precision() -> None:
    right = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    left, errors = _ready(**{OURS: right}).checked(Exact(right, right))
    assert not left.runs and not errors
    assert left.skipped == {OURS: "skipped: computed in fp32"}


def test_ours_is_left_out_where_it_refuses_the_precision(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(base: object, precision: str) -> None:
        raise ValueError(f"no {precision} here")

    monkeypatch.setattr(candidates, "Ours", refuse)
    ready = Candidates(exports, "int8", [], 1.0, 1).ready(_workload(exports))
    assert list(ready.runs) == [REFERENCE]
    assert ready.skipped == {OURS: "skipped: no int8 here"}
