"""The Triton kernel against float64: interpreted in every run, on a GPU with `-m gpu`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from masking.kernels import (
    CudaPrecision,
    LinearMask,
    Segments,
    WordMask,
    mask_addresses,
    masked_linear,
    ready_mask,
)
from tests.support.kernels.cases import Case, random_case

pytest.importorskip("triton")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from masking.kernels.cuda import kernel as triton_kernels
from masking.kernels.cuda import launch as cuda
from tests.support.kernels.triton_interpreter import interpret, interpreted

TOLERANCES: dict[CudaPrecision, float] = {"fp32": 1e-5, "tf32x3": 1e-5, "tf32": 5e-3, "bf16": 2e-2}
SHAPES = [(1, 1), (3, 5), (17, 9), (33, 31), (64, 64), (65, 97), (100, 129)]
Masks = list[LinearMask | None]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], ids=["interpreted", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    if request.param == "cpu":
        interpret(monkeypatch)
    return torch.device(request.param)


def words(case: Case, device: torch.device) -> Masks:
    return [WordMask.of(bits, device) for bits in case.bits()]


def run(
    case: Case,
    masks: Sequence[LinearMask | None],
    device: torch.device,
    *,
    bias: bool = True,
    precision: CudaPrecision = "fp32",
    addresses: torch.Tensor | None = None,
) -> torch.Tensor:
    return masked_linear(
        case.inputs.to(device),
        case.weight.to(device),
        case.bias.to(device) if bias else None,
        case.segments,
        masks,
        method="kernel",
        precision=precision,
        addresses=addresses,
    ).cpu()


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_shapes(rows: int, columns: int, device: torch.device) -> None:
    case = random_case(rows, columns, [1, 7, 33], 0.3)
    case.assert_close(run(case, words(case, device), device))


@pytest.mark.parametrize("zeros", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_densities(zeros: float, device: torch.device) -> None:
    case = random_case(48, 70, [5, 16], zeros)
    case.assert_close(run(case, words(case, device), device))


def test_segment_lengths_up_to_512(device: torch.device) -> None:
    case = random_case(32, 64, [1, 512, 2, 100, 3], [0.0, 0.05, 1.0, 0.07, 0.5])
    case.assert_close(run(case, words(case, device), device))


def test_one_long_segment(device: torch.device) -> None:
    case = random_case(40, 33, [300], 0.05)
    case.assert_close(run(case, words(case, device), device))


@pytest.mark.parametrize("precision", TOLERANCES)
def test_precisions(precision: CudaPrecision, device: torch.device) -> None:
    case = random_case(48, 70, [5, 40], 0.1)
    outputs = run(case, words(case, device), device, precision=precision)
    case.assert_close(outputs, tolerance=TOLERANCES[precision])


def test_bfloat16_tensors(device: torch.device) -> None:
    case = random_case(48, 70, [5, 40], 0.1)
    inputs, weight, bias = (one.to(device, torch.bfloat16) for one in (case.inputs, case.weight, case.bias))
    masks = words(case, device)
    outputs = masked_linear(inputs, weight, bias, case.segments, masks, method="kernel", precision="bf16")
    assert outputs.dtype == torch.bfloat16
    case.assert_close(outputs.cpu().float(), tolerance=TOLERANCES["bf16"])


def test_segments_without_a_mask_or_a_bias(device: torch.device) -> None:
    case = random_case(48, 40, [3, 20, 5], [0.1, 0.0, 0.1])
    masks = words(case, device)
    masks[1] = None
    case.assert_close(run(case, masks, device, bias=False), bias=False)


def test_a_dropped_weight_is_never_multiplied(device: torch.device) -> None:
    case = random_case(20, 30, [4], 0.0)
    case.masks[0][3, 5] = False
    case.weight[3, 5] = float("inf")
    assert torch.isfinite(run(case, words(case, device), device)).all()


def test_addresses_made_before_for_several_layers(device: torch.device) -> None:
    cases = [random_case(48, 40, [3, 20, 5], 0.1, seed) for seed in range(2)]
    layers = [words(case, device) for case in cases]
    layers[0][1] = None
    cases[0].masks[1][:] = True
    table = mask_addresses(layers, device)
    for case, masks, addresses in zip(cases, layers, table, strict=True):
        case.assert_close(run(case, masks, device, addresses=addresses))


@pytest.mark.parametrize("tile", [(16, 1, 4, 1), (32, 2, 2, 2), (64, 4, 1, 3)], ids=str)
@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 80),
    columns=st.integers(1, 80),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    zeros=st.floats(0, 1),
    bias=st.booleans(),
    unmasked=st.integers(0, 5),
    seed=st.integers(0, 2**20),
)
def test_kernel_equals_reference(
    *,
    tile: tuple[int, int, int, int],
    rows: int,
    columns: int,
    lengths: list[int],
    zeros: float,
    bias: bool,
    unmasked: int,
    seed: int,
) -> None:
    case, cpu = random_case(rows, columns, lengths, zeros, seed), torch.device("cpu")
    masks = words(case, cpu)
    if unmasked < len(masks):
        masks[unmasked] = None
        case.masks[unmasked][:] = True
    with pytest.MonkeyPatch.context() as monkeypatch:
        interpret(monkeypatch, *tile)
        case.assert_close(run(case, masks, cpu, bias=bias), bias=bias)


def compiled_for(capability: int, precision: str, floats: str) -> dict[str, Any]:
    """The kernel in all of Triton's languages for a GPU that need not be there, machine code included."""
    kernel = triton_kernels.multiply_tiles
    constants = {
        "PRECISION": precision,
        "PAIRS": floats == "bf16",
        "BLOCK_TOKENS": 32,
        "BLOCK_ROWS": 64,
        "TILES": 1,
        "WORDS": 1 if precision == "ieee" else 2,
        "SPLITS": 2,
        "WHOLE_STEPS": True,
    }
    pointers = dict.fromkeys(("inputs", "weight", "bias", "outputs"), f"*{floats}")
    pointers |= {"tiles": "*i32", "addresses": "*i64", "tables": "*i32"}
    pointers |= {"partials": "*fp32", "counters": "*i32"}
    types = {
        name: "constexpr" if name in constants else pointers.get(name, "i32") for name in kernel.arg_names
    }
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    aligned = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in (*pointers, "rows", "columns")
    }
    source = ASTSource(kernel, types, values, aligned)
    options = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}
    languages: dict[str, Any] = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options=options
    ).asm
    assert languages["cubin"]
    return languages


@pytest.mark.parametrize(
    ("capability", "precision", "floats", "instruction"),
    [
        (80, "ieee", "fp32", "fma.rn.f32"),
        (80, "tf32", "fp32", "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"),
        (80, "tf32", "bf16", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"),
        (90, "ieee", "fp32", "fma.rn.f32"),
        (90, "tf32", "fp32", "wgmma.mma_async.sync.aligned.m64n32k8.f32.tf32.tf32"),
        (90, "tf32x3", "fp32", "wgmma.mma_async.sync.aligned.m64n32k8.f32.tf32.tf32"),
        (90, "tf32", "bf16", "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16"),
    ],
)
def test_compiles_to_the_instructions_of_its_precision(
    capability: int,
    precision: str,
    floats: str,
    instruction: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ptx = compiled_for(capability, precision, floats)["ptx"]
    assert instruction in ptx
    assert ("mma" in ptx) == ("mma" in instruction)


def test_weights_are_masked_in_the_registers_that_they_are_multiplied_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    languages = compiled_for(90, "tf32", "bf16")
    assert re.search(r"local_load .*-> tensor<64x64xbf16, #ttg.dot_op<{opIdx = 0", languages["ttgir"])
    assert languages["ptx"].count("prmt.b32 kept") == 64 * 64 // 128 // 2


@pytest.mark.parametrize(
    ("lengths", "precision", "tiles"),
    [
        ([20] * 9, "tf32", {1, 2, 4}),
        ([20] * 9, "bf16", {1, 2, 4}),
        ([40] * 5, "tf32", {1, 2}),
        ([9] * 5, "fp32", {1}),
        ([9], "tf32", {1}),
    ],
)
def test_tuning_tries_the_tiles_that_fit(
    lengths: list[int], precision: CudaPrecision, tiles: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = triton_kernels.tuned_multiply_tiles
    interpret(monkeypatch)
    monkeypatch.setattr(triton_kernels, "tuned_multiply_tiles", tuned)
    monkeypatch.setattr(tuned, "fn", interpreted(triton_kernels.multiply_tiles))
    monkeypatch.setattr(tuned, "cache", {})
    monkeypatch.setattr(tuned, "cache_results", False)
    monkeypatch.setattr(tuned, "do_bench", lambda run, quantiles: (run(), [1.0, 1.0, 1.0])[1])
    case, cpu = random_case(40, 40, lengths), torch.device("cpu")
    outputs = run(case, words(case, cpu), cpu, precision=precision)
    case.assert_close(outputs, tolerance=TOLERANCES[precision])
    assert {one.kwargs["TILES"] for one in tuned.configs_timings} == tiles


@settings(deadline=None)
@given(
    rows=st.integers(1, 4096),
    columns=st.integers(1, 4096),
    lengths=st.tuples(st.integers(1, 200), st.integers(1, 300)),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    precision=st.sampled_from(("ieee", "tf32", "tf32x3")),
)
def test_split_tiles_have_a_step_each_and_room_for_their_sums(
    rows: int, columns: int, lengths: tuple[int, int], dtype: torch.dtype, precision: str
) -> None:
    tiles = cuda._tiles(Segments.of_lengths([lengths[0]] * lengths[1]), torch.device("cpu"))
    fitting = triton_kernels.fitting(
        triton_kernels.CONFIGS,
        {"inputs": torch.empty(0, dtype=dtype)},
        rows=rows,
        columns=columns,
        load=tiles.load,
        PRECISION="tf32" if dtype == torch.bfloat16 else precision,
        BLOCK_TOKENS=tiles.tokens,
    )
    assert fitting
    for one in (config.kwargs for config in fitting if config.kwargs["SPLITS"] > 1):
        blocks = -(-rows // one["BLOCK_ROWS"]) * -(-tiles.used // one["TILES"])
        sums = one["BLOCK_ROWS"] * one["TILES"] * tiles.tokens
        assert blocks <= len(tiles.counters)
        assert blocks * one["SPLITS"] * sums <= tiles.partial_sums(rows)
        assert one["SPLITS"] * 32 * one["WORDS"] <= columns


@pytest.mark.parametrize(
    ("lengths", "tokens", "load", "rows"),
    [
        ([1], 8, 1, 4),
        ([9] * 5, 16, 4, 8),
        ([32] * 16, 32, 16, 16),
        ([128] * 64, 128, 64, 64),
        ([1000], 128, 4, 8),
        ([33], 64, 1, 4),
    ],
)
def test_tiles_are_as_large_as_the_average_segment(
    lengths: list[int], tokens: int, load: int, rows: int
) -> None:
    tiles = cuda._tiles(random_case(1, 1, lengths).segments, torch.device("cpu"))
    assert (tiles.tokens, tiles.load, len(tiles.rows)) == (tokens, load, rows)
    assert int(tiles.rows[:, 1].sum()) == sum(lengths)
    assert int(tiles.rows[:, 1].max()) <= tokens


def test_a_precision_that_does_not_exist() -> None:
    case, cpu = random_case(16, 16, [2]), torch.device("cpu")
    with pytest.raises(ValueError, match="'fp8' is not one of fp32, tf32x3, tf32, bf16"):
        run(case, words(case, cpu), cpu, precision="fp8")  # type: ignore[arg-type]


def test_addresses_of_other_segments() -> None:
    case, cpu = random_case(16, 16, [2]), torch.device("cpu")
    with pytest.raises(ValueError, match="addresses are not int64, one per segment"):
        run(case, words(case, cpu), cpu, addresses=torch.zeros(2, dtype=torch.int64))


def test_masks_on_another_device(device: torch.device) -> None:
    case = random_case(16, 16, [2])
    masks = words(case, torch.device("meta"))
    with pytest.raises(ValueError, match="the masks are on meta, not on c"):
        run(case, masks, device)


def test_a_bias_that_is_not_contiguous(device: torch.device) -> None:
    case = random_case(40, 16, [2])
    case.assert_close(
        run(replace(case, bias=case.bias.repeat_interleave(2)[::2]), words(case, device), device)
    )


@pytest.mark.gpu
def test_ready_masks_take_the_kernel_by_default() -> None:
    device = torch.device("cuda")
    case = random_case(48, 64, [3, 20])
    masks = [ready_mask(bits.packed, bits.columns, device) for bits in case.bits()]
    layer = case.inputs.to(device), case.weight.to(device), case.bias.to(device), case.segments
    outputs = masked_linear(*layer, masks)
    case.assert_close(outputs.cpu())
    assert torch.equal(outputs, masked_linear(*layer, masks, method="kernel"))


@pytest.mark.gpu
def test_a_captured_call_is_replayed_for_other_masks() -> None:
    device = torch.device("cuda")
    case, other = random_case(48, 64, [3, 20]), random_case(48, 64, [3, 20], seed=1)
    masks, others = words(case, device), words(other, device)
    addresses = mask_addresses([masks], device)[0]
    layer = case.inputs.to(device), case.weight.to(device), case.bias.to(device), case.segments
    masked_linear(*layer, masks, addresses=addresses)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = masked_linear(*layer, masks, addresses=addresses)
    graph.replay()
    case.assert_close(outputs.cpu())
    addresses.copy_(mask_addresses([others], device)[0])
    graph.replay()
    Case(case.inputs, case.weight, case.bias, case.segments, other.masks).assert_close(outputs.cpu())


def test_nothing_is_copied_into_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(ValueError, match="make the call once before, with addresses"):
        mask_addresses([[None]], torch.device("cuda"))
