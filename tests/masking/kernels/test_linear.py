import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from masking.kernels import (
    LinearMask,
    Method,
    StripMask,
    masked_linear,
)
from masking.kernels.cpu import launch as native
from tests.masking.kernels.conftest import needs_kernels, noted_threads
from tests.support.kernels.cases import Case, random_case

METHODS = [pytest.param("kernel", marks=needs_kernels), "fold"]
SHAPES = [(1, 1), (3, 5), (16, 8), (17, 9), (47, 31), (48, 64), (49, 65), (100, 129), (770, 771)]


def run(case: Case, method: Method, *, bias: bool = True) -> torch.Tensor:
    masks: list[LinearMask | None] = [
        StripMask.of(bits) if method == "kernel" else bits for bits in case.bits()
    ]
    return masked_linear(
        case.inputs,
        case.weight,
        case.bias if bias else None,
        case.segments,
        masks,
        method=method,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_shapes(method: Method, rows: int, columns: int, threads: int) -> None:
    case = random_case(rows, columns, [1, 7, 8, 9, 33], 0.3)
    case.assert_close(run(case, method))


@needs_kernels
def test_a_small_product_wakes_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with noted_threads(monkeypatch, native) as used:
        for rows, columns, tokens in ((32, 32, 4), (768, 768, 4), (768, 768, 512)):
            case = random_case(rows, columns, [tokens], 0.05)
            case.assert_close(run(case, "kernel"))
    assert used == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("zeros", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_densities(method: Method, zeros: float, threads: int) -> None:
    case = random_case(96, 70, [5, 16], zeros)
    case.assert_close(run(case, method))


@pytest.mark.parametrize("method", METHODS)
def test_segment_lengths_up_to_512(method: Method) -> None:
    case = random_case(64, 96, [1, 512, 2, 100, 3], [0.0, 0.05, 1.0, 0.07, 0.5])
    case.assert_close(run(case, method))


@pytest.mark.parametrize("method", METHODS)
def test_bert_widths(method: Method, threads: int) -> None:
    case = random_case(768, 3072, [32, 8], 0.05)
    case.assert_close(run(case, method))


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 130),
    columns=st.integers(1, 130),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    zeros=st.floats(0, 1),
    bias=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_kernel_equals_reference(
    rows: int, columns: int, lengths: list[int], zeros: float, bias: bool, seed: int
) -> None:
    case = random_case(rows, columns, lengths, zeros, seed)
    case.assert_close(run(case, "kernel", bias=bias), bias=bias)


@needs_kernels
def test_a_segment_answers_the_same_bits_alone_or_in_any_batch(threads: int) -> None:
    case = random_case(100, 77, [12, 20, 9], 0.1)
    strips = [StripMask.of(bits) for bits in case.bits()]
    together = run(case, "kernel")
    for (start, end), mask in zip(case.segments.spans(), strips, strict=True):
        segments = type(case.segments)((0, end - start))
        alone = masked_linear(
            case.inputs[start:end], case.weight, case.bias, segments, [mask], method="kernel"
        )
        assert torch.equal(alone, together[start:end])


@needs_kernels
def test_a_dropped_weight_is_never_multiplied() -> None:
    case = random_case(20, 30, [4], 0.0)
    case.masks[0][3, 5] = False
    case.weight[3, 5] = float("inf")
    outputs = run(case, "kernel")
    assert torch.isfinite(outputs).all()


def test_forms_and_no_mask_mix_in_one_batch() -> None:
    case = random_case(48, 40, [3, 4, 5, 6], [0.1, 0.1, 0.0, 0.1])
    bits = case.bits()
    case.masks[2][:] = True
    best = StripMask.of(bits[0]) if native.available() else bits[0]
    outputs = masked_linear(
        case.inputs, case.weight, case.bias, case.segments, [best, bits[1], None, bits[3]]
    )
    case.assert_close(outputs)


def test_without_numba_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    case = random_case(48, 40, [3, 4])
    case.assert_close(masked_linear(case.inputs, case.weight, case.bias, case.segments, case.bits()))
    with pytest.raises(ValueError, match="numba"):
        run_kernel_without_strips(case)


def run_kernel_without_strips(case: Case) -> torch.Tensor:
    return masked_linear(case.inputs, case.weight, case.bias, case.segments, case.bits(), method="kernel")


def test_the_weight_is_not_written_to() -> None:
    case = random_case(48, 40, [3, 4])
    before = case.weight.clone()
    masked_linear(case.inputs, case.weight, case.bias, case.segments, case.bits())
    assert torch.equal(case.weight, before)


def test_inputs_need_not_be_contiguous() -> None:
    case = random_case(48, 40, [3, 4])
    spread = torch.empty(7, 80)[:, ::2].copy_(case.inputs)
    case.assert_close(masked_linear(spread, case.weight, case.bias, case.segments, case.bits()))


def test_gradients_flow_where_they_are_wanted() -> None:
    case = random_case(48, 40, [7])
    inputs = case.inputs.clone().requires_grad_()
    masked_linear(inputs, case.weight, None, case.segments, case.bits()).sum().backward()
    wanted = np.where(case.masks[0], case.weight.numpy(), 0).sum(0)
    assert inputs.grad is not None
    np.testing.assert_allclose(inputs.grad[0].numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_an_unknown_method_is_refused() -> None:
    case = random_case(16, 16, [2])
    with pytest.raises(ValueError, match="'fastest' is not one of auto, kernel, fold"):
        masked_linear(case.inputs, case.weight, None, case.segments, case.bits(), method="fastest")  # type: ignore[arg-type]


def test_all_mistakes_are_reported_at_once() -> None:
    case = random_case(16, 16, [2])
    with pytest.raises(ValueError, match=r"inputs are not .*; bias is not .*; masks are not one per segment"):
        masked_linear(case.inputs[:1], case.weight, torch.zeros(3), case.segments, case.bits() * 2)


def test_no_tokens() -> None:
    case = random_case(16, 16, [2])
    empty = type(case.segments)((0,))
    assert masked_linear(case.inputs[:0], case.weight, None, empty, []).shape == (0, 16)
