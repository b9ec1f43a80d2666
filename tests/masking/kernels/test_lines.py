"""The line kernel against float64, on operands that are rounded as it rounds them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from masking.kernels import Segments, reference_linear
from masking.kernels.cpu.lines import (
    Finish,
    LineLayer,
    LineMask,
    LinePrecision,
    LineWeight,
    add_and_normalise,
    at_once,
    attend_rows,
    catch_up,
    launch,
    line_products,
    ready_mask,
)
from masking.kernels.cpu.processor import has_tiles, lacks
from tests.masking.kernels.conftest import needs_kernels, noted_threads
from tests.support.kernels.cases import LINES, NARROW, Case, random_case

pytestmark = [needs_kernels, pytest.mark.usefixtures("instructions")]

SHAPES = [(1, 4), (3, 8), (16, 8), (17, 12), (47, 32), (48, 64), (49, 64), (100, 132), (770, 772)]
OUTPUTS = {Finish.FLOAT32: 1e-6, Finish.BFLOAT16: 2**-8, Finish.GELU: 2**-8, Finish.GELU32: 5e-6}
_ROUNDING = {
    "fp32": 0.0,
    "bf16": 0.0,
    "int8": 1e-2,
}  # a step of a token's 256 levels, where a value lies between two


@pytest.fixture(params=["vector registers", "tile registers"])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from masking.kernels.cpu.lines import kernel  # noqa: PLC0415 (needs numba)

    if request.param == "vector registers":
        monkeypatch.setattr(kernel, "has_tiles", lambda _precision: False)
    elif not has_tiles("bf16"):
        pytest.skip("needs a processor with AMX, and that Linux lets this process use it")


def layer_of(case: Case, precision: LinePrecision, *, bias: bool = True) -> LineLayer:
    weight = LineWeight.of(case.weight, case.bias if bias else None, precision)
    return LineLayer(weight, [ready_mask(weight, bits.packed) for bits in case.bits()])


def inputs_of(case: Case, precision: LinePrecision) -> Tensor:
    return case.inputs if precision == "fp32" else case.inputs.bfloat16()


def exact(case: Case, layer: LineLayer, *, bias: bool = True) -> Tensor:
    """The product in float64, of the weights as they are kept and the inputs as the kernel rounds them."""
    inputs = inputs_of(case, layer.weight.precision).double()
    if layer.weight.precision == "int8":
        low, high = inputs.amin(1, keepdim=True).clamp(max=0), inputs.amax(1, keepdim=True).clamp(min=0)
        step = (high - low) / 255
        step[step == 0] = 1
        zero = (0.5 - low / step).floor()
        inputs = ((inputs / step + zero).round().clamp(0, 255) - zero) * step
    masks = [None if mask is None else mask.expand() for mask in layer.masks]
    added = case.bias.double() if bias else None
    return reference_linear(inputs, layer.weight.expand(), added, case.segments, masks)


def assert_close(outputs: Tensor, wanted: Tensor, precision: LinePrecision, finish: Finish) -> None:
    if finish in {Finish.GELU, Finish.GELU32}:
        wanted = nn.functional.gelu(wanted)
    wide = precision == "fp32" or finish >= Finish.FLOAT32
    assert outputs.dtype == (torch.float32 if wide else torch.bfloat16)
    assert outputs.shape == wanted.shape
    tolerance = _ROUNDING[precision] + (OUTPUTS[Finish.GELU32 if wide else finish])
    scale = float(wanted.abs().max()) or 1.0
    assert float((outputs.double() - wanted).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("finish", Finish, ids=lambda one: one.name)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("precision", LINES)
def test_shapes(precision: LinePrecision, rows: int, columns: int, finish: Finish, threads: int) -> None:
    case = random_case(rows, columns, [1, 7, 8, 9, 33], 0.3)
    layer = layer_of(case, precision)
    (outputs,) = line_products(inputs_of(case, precision), [layer], case.segments, finish)
    assert_close(outputs, exact(case, layer), precision, finish)


@pytest.mark.parametrize("zeros", [0.0, 0.05, 0.95, 1.0])
@pytest.mark.parametrize("precision", LINES)
def test_densities(precision: LinePrecision, zeros: float) -> None:
    case = random_case(96, 72, [5, 16], zeros)
    layer = layer_of(case, precision, bias=False)
    (outputs,) = line_products(inputs_of(case, precision), [layer], case.segments, Finish.FLOAT32)
    assert_close(outputs, exact(case, layer, bias=False), precision, Finish.FLOAT32)


@pytest.mark.parametrize("precision", LINES)
def test_a_segment_without_a_mask_has_the_weight_as_it_is(precision: LinePrecision, threads: int) -> None:
    case = random_case(64, 96, [1, 300, 2], [0.05, 0.5, 1.0])
    layer = layer_of(case, precision)
    layer = layer._replace(masks=[layer.masks[0], None, layer.masks[2]])
    (outputs,) = line_products(inputs_of(case, precision), [layer], case.segments)
    assert_close(outputs, exact(case, layer), precision, Finish.BFLOAT16)


@pytest.mark.parametrize("precision", LINES)
def test_layers_of_the_same_inputs_are_one_call(precision: LinePrecision, threads: int) -> None:
    cases = [random_case(rows, 768, [32, 8], 0.05, seed=rows) for rows in (768, 48, 17)]
    layers = [layer_of(case, precision) for case in cases]
    together = line_products(inputs_of(cases[0], precision), layers, cases[0].segments)
    for layer, outputs in zip(layers, together, strict=True):
        (alone,) = line_products(inputs_of(cases[0], precision), [layer], cases[0].segments)
        assert torch.equal(outputs, alone)


@pytest.mark.parametrize("precision", LINES)
def test_a_token_has_the_same_sums_in_any_batch(precision: LinePrecision, threads: int) -> None:
    case = random_case(96, 128, [9, 40, 3], 0.1)
    layer, inputs = layer_of(case, precision), inputs_of(case, precision)
    (outputs,) = line_products(inputs, [layer], case.segments, Finish.FLOAT32)
    for segment, (start, end) in enumerate(case.segments.spans()):
        for token in range(start, end):
            one = LineLayer(layer.weight, [layer.masks[segment]])
            (alone,) = line_products(inputs[token : token + 1], [one], Segments((0, 1)), Finish.FLOAT32)
            assert torch.equal(alone[0], outputs[token])


@pytest.mark.parametrize("precision", LINES)
def test_zeros_and_equal_values(precision: LinePrecision) -> None:
    case = random_case(32, 64, [4], 0.2)
    case.inputs[0], case.inputs[1], case.inputs[2] = 0.0, 3.0, -3.0
    layer = layer_of(case, precision)
    (outputs,) = line_products(inputs_of(case, precision), [layer], case.segments, Finish.FLOAT32)
    assert_close(outputs, exact(case, layer), precision, Finish.FLOAT32)
    assert torch.equal(outputs[0], case.bias)


@pytest.mark.parametrize("precision", LINES)
def test_what_needs_no_rounding_is_exact(precision: LinePrecision, threads: int) -> None:
    case = random_case(80, 768, [5, 8], 0.3)
    case.inputs.mul_(40).round_().clamp_(-100, 155)
    case.inputs[:, 0], case.inputs[:, 1] = -100, 155  # so that a level is 1
    layer = layer_of(case, precision)
    (outputs,) = line_products(inputs_of(case, precision), [layer], case.segments, Finish.FLOAT32)
    wanted = reference_linear(
        case.inputs.double(),
        layer.weight.expand(),
        case.bias.double(),
        case.segments,
        [torch.from_numpy(mask) for mask in case.masks],
    )
    assert float((outputs - wanted).abs().max()) <= 1e-6 * float(wanted.abs().max())


@pytest.mark.parametrize("precision", LINES)
def test_masks_keep_every_bit(precision: LinePrecision) -> None:
    case = random_case(50, 24, [1, 1], 0.5)
    weight = LineWeight.of(case.weight, None, precision)
    for mask, bits in zip(case.masks, case.bits(), strict=True):
        ready = ready_mask(weight, bits.packed)
        assert ready.shape == (50, 24)
        np.testing.assert_array_equal(ready.expand().numpy(), mask)
        sums = 0 if ready.row_sums is None else 4 * 64
        assert ready.nbytes == 64 * 24 // 8 + sums


@pytest.mark.skipif(bool(lacks("int8")), reason=lacks("int8") or "can be run")
def test_row_sums_are_those_of_the_kept_integers() -> None:
    case = random_case(50, 24, [1], 0.5)
    weight = LineWeight.of(case.weight, None, "int8")
    assert weight.scales is not None
    integers = (weight.expand() / weight.scales[:50].double()[:, None]).round()
    ready = ready_mask(weight, case.bits()[0].packed)
    assert ready.row_sums is not None
    kept = (integers * torch.from_numpy(case.masks[0])).sum(1)
    np.testing.assert_array_equal(ready.row_sums[:50], kept.numpy())
    assert int(integers.abs().amax()) == 127


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_rounded_weight_is_near(precision: LinePrecision) -> None:
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    kept = LineWeight.of(weight, None, precision)
    steps = weight.abs().amax(1) * {"fp32": 0, "bf16": 2**-8, "int8": 1 / 254}[precision]
    assert bool(((kept.expand() - weight).abs() <= 1.001 * steps[:, None]).all())
    assert kept.nbytes == 4 * 40 + 48 * {"fp32": 4 * 64, "bf16": 2 * 64, "int8": 64 + 8}[precision]


def test_gelu_is_exact_to_2e_5() -> None:
    values = torch.linspace(-8, 8, 4001)
    weight = LineWeight.of(torch.zeros(len(values), 8), values, "bf16")
    if lacks("bf16"):
        pytest.skip(lacks("bf16"))
    inputs = torch.zeros(1, 8, dtype=torch.bfloat16)
    layer = LineLayer(weight, [None])
    (outputs,) = line_products(inputs, [layer], Segments((0, 1)), Finish.GELU)
    wanted = nn.functional.gelu(values.double())
    assert bool(((outputs[0].double() - wanted).abs() <= 2e-5 + 2**-8 * wanted.abs()).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_residual_and_norm(dtype: torch.dtype, threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    sums, residual = (
        torch.randn(37, 100, generator=generator) * 3 + 1,
        torch.randn(37, 100, generator=generator),
    )
    norm = nn.LayerNorm(100, eps=1e-6).requires_grad_(False)
    norm.weight.copy_(torch.randn(100, generator=generator))
    norm.bias.copy_(torch.randn(100, generator=generator))
    rounded = residual.to(dtype)
    wanted = norm.double()(sums.double() + rounded.double())
    outputs = add_and_normalise(sums.clone(), rounded, norm.float())
    assert outputs.dtype == dtype
    rounding = 2**-8 if dtype == torch.bfloat16 else 1e-6
    assert bool(((outputs.double() - wanted).abs() <= rounding * wanted.abs() + 1e-6).all())


@pytest.mark.skipif(bool(lacks("bf16")), reason=lacks("bf16") or "can be run")
@pytest.mark.parametrize("width", [2, 10, 16, 32, 64, 80])
@pytest.mark.parametrize("lengths", [[1], [2, 1, 3], [17, 33, 64, 8], [150]], ids=str)
def test_attention_is_that_of_each_row(lengths: list[int], width: int, threads: int) -> None:
    heads, generator = 3, torch.Generator().manual_seed(0)
    shape = sum(lengths), heads * width
    query, key, value = (3 * torch.randn(shape, generator=generator).bfloat16() for _ in range(3))
    bounds = np.cumsum([0, *lengths])
    outputs = attend_rows(query, key, value, heads, bounds)
    for start, end in pairwise(bounds.tolist()):
        by_head = [
            one[start:end].double().unflatten(1, (heads, width)).transpose(0, 1)
            for one in (query, key, value)
        ]
        wanted = nn.functional.scaled_dot_product_attention(*by_head).transpose(0, 1).flatten(1)
        difference = (outputs[start:end].double() - wanted).abs().max()
        assert float(difference) <= 2**-7 * float(wanted.abs().max())
        own = slice(start, end)
        alone = attend_rows(query[own], key[own], value[own], heads, np.array([0, end - start]))
        assert torch.equal(alone, outputs[start:end])


@pytest.mark.parametrize("precision", LINES)
def test_steps_at_once_are_those_one_by_one(precision: LinePrecision, threads: int) -> None:
    first, second = random_case(64, 96, [40, 9], 0.1), random_case(96, 64, [40, 9], 0.1, seed=1)
    layers, norm = [layer_of(first, precision), layer_of(second, precision)], nn.LayerNorm(96)
    bounds = np.array([0, 40, 49])

    def block(hidden: Tensor) -> Tensor:
        (products,) = line_products(hidden, layers[:1], first.segments, Finish.GELU)
        wide = products.dtype == torch.float32
        attended = products if wide else attend_rows(products, products, products, 2, bounds)
        (sums,) = line_products(attended, layers[1:], first.segments, Finish.FLOAT32)
        return add_and_normalise(sums, hidden, norm)

    hidden = inputs_of(first, precision)
    one_by_one = block(hidden)
    for _ in range(20):
        with at_once():
            together = block(hidden)
        assert torch.equal(together, one_by_one)
    with at_once():
        with at_once():
            inner = block(hidden)
        catch_up()
        assert torch.equal(inner, one_by_one)
        outer = block(inner)
    assert torch.equal(outer, block(one_by_one))


@pytest.mark.parametrize("precision", LINES)
def test_steps_of_little_work_wake_no_other_thread(
    precision: LinePrecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {tokens: random_case(64, 96, [tokens], 0.1) for tokens in (4, 512)}
    ready = {
        tokens: (layer_of(case, precision), inputs_of(case, precision)) for tokens, case in cases.items()
    }
    with noted_threads(monkeypatch, launch) as used:
        for tokens, times in ((4, 1), (4, 300), (512, 1)):
            layer, inputs = ready[tokens]
            with at_once():
                for _ in range(times):
                    line_products(inputs, [layer], cases[tokens].segments)
    assert used == [1, 2, 2]


@pytest.mark.parametrize("precision", NARROW)
def test_torchs_own_products_are_right_between_ours(precision: LinePrecision) -> None:
    case = random_case(64, 96, [40], 0.1)
    layer, inputs = layer_of(case, precision), case.inputs.bfloat16()
    weight, sizes = case.weight.bfloat16(), (3, 17, 40)
    before = [nn.functional.linear(inputs[:size], weight) for size in sizes]
    for size, wanted in zip(sizes, before, strict=True):
        line_products(inputs, [layer], case.segments)
        assert torch.equal(nn.functional.linear(inputs[:size], weight), wanted)


def test_nothing_is_computed_of_no_tokens() -> None:
    weight = LineWeight.of(torch.ones(16, 8), None, "bf16")
    empty = torch.empty(0, 8, dtype=torch.bfloat16)
    (outputs,) = line_products(empty, [LineLayer(weight, [])], Segments((0,)))
    assert outputs.shape == (0, 16)


@pytest.mark.parametrize(("precision", "columns"), [("bf16", 9), ("int8", 10)])
def test_columns_that_fill_no_group_are_refused(precision: LinePrecision, columns: int) -> None:
    with pytest.raises(ValueError, match=f"{columns} columns are no multiple of"):
        LineWeight.of(torch.ones(4, columns), None, precision)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, layer: (x.float(), layer), "inputs are not contiguous bfloat16"),
        (lambda x, layer: (x.T.contiguous().T, layer), "inputs are not contiguous bfloat16"),
        (lambda x, layer: (x[:-1], layer), "inputs are not contiguous bfloat16"),
        (lambda x, layer: (x[:, :8].contiguous(), layer), "a weight has other columns"),
        (lambda x, layer: (x, layer._replace(masks=[])), "masks are not one per segment"),
        (lambda x, layer: (x, layer._replace(masks=[LineMask(np.zeros((2, 8), np.uint32), 32)])), "shape"),
        (lambda x, layer: (x, layer._replace(masks=[LineMask(np.zeros((1, 4), np.uint64), 16)])), "shape"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    layer = LineLayer(LineWeight.of(torch.ones(16, 16), None, "bf16"), [None])
    inputs, layer = change(torch.ones(3, 16, dtype=torch.bfloat16), layer)
    with pytest.raises(ValueError, match=message):
        line_products(inputs, [layer], Segments((0, 3)))
