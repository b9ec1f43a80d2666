import math

import torch

from masking.binarize import apply_mask, initial_scores, keep, masked_weight, ranked_by_magnitude
from tests.support.autograd import saved_for_backward


def test_a_score_equal_to_the_threshold_keeps_its_weight() -> None:
    threshold = 0.01
    tau = torch.tensor(threshold)
    below = torch.nextafter(tau, torch.tensor(-1.0))
    above = torch.nextafter(tau, torch.tensor(1.0))
    scores = torch.stack([below, tau, above])
    assert keep(scores, threshold).tolist() == [False, True, True]
    assert keep(scores, threshold, out=torch.empty(3)).tolist() == [0.0, 1.0, 1.0]
    assert masked_weight(torch.full((3,), 2.0), scores, threshold).tolist() == [0.0, 2.0, 2.0]


def test_masked_weight_and_its_gradient_are_bit_for_bit_those_of_the_plain_formula() -> None:
    weight, inputs, upstream = torch.randn(50, 33), torch.randn(7, 33), torch.randn(7, 50)
    scores = torch.randn(50, 33) * 0.02
    scores[0, :5] = 0.01
    bits = keep(scores, 0.01).float().requires_grad_()
    scores.requires_grad_()

    plain, fused = apply_mask(weight, bits), masked_weight(weight, scores, 0.01)
    assert torch.equal(fused.view(torch.int32), plain.view(torch.int32))
    for masked in (plain, fused):
        (inputs @ masked.T).backward(upstream)
    assert bits.grad is not None
    assert scores.grad is not None
    assert torch.equal(scores.grad, bits.grad)


def test_gradient_of_a_score_is_neither_clipped_nor_scaled() -> None:
    scores = torch.tensor([-80.0, 0.01, 80.0], requires_grad=True)
    masked_weight(torch.tensor([3.0, 3.0, 3.0]), scores, 0.01).backward(torch.tensor([50.0, 50.0, -50.0]))
    assert scores.grad is not None
    assert scores.grad.tolist() == [150.0, 150.0, -150.0]


def test_a_temperature_scales_the_gradient_by_the_slope_of_the_sigmoid_and_leaves_the_weight_alone() -> None:
    weight, upstream, threshold, temperature = torch.randn(30, 20), torch.randn(30, 20), 0.01, 0.2
    scores = torch.randn(30, 20)
    scores[0, :3] = torch.tensor([threshold, 2.0, -2.0])
    scores.requires_grad_()
    masked = masked_weight(weight, scores, threshold, temperature)
    assert torch.equal(masked, masked_weight(weight, scores, threshold))
    masked.backward(upstream)

    distance = scores.detach().double().requires_grad_()
    torch.sigmoid((distance - threshold) / temperature).sum().backward()
    assert distance.grad is not None
    assert scores.grad is not None
    slope = 4.0 * temperature * distance.grad
    torch.testing.assert_close(scores.grad.double(), upstream * weight * slope, rtol=1e-5, atol=1e-9)
    assert scores.grad[0, 0] == upstream[0, 0] * weight[0, 0]


def test_masking_keeps_nothing_but_what_is_there_anyway_for_the_backward_pass() -> None:
    weight, scores = torch.randn(4, 3), torch.randn(4, 3, requires_grad=True)
    with saved_for_backward() as saved:
        masked_weight(weight, scores, 0.01)
    assert [tensor.data_ptr() for tensor in saved] == [weight.data_ptr()]
    with saved_for_backward() as saved:
        masked_weight(weight, scores, 0.01, 0.1)
    assert [tensor.data_ptr() for tensor in saved] == [weight.data_ptr(), scores.data_ptr()]


def test_masking_by_booleans_or_by_floats_gives_the_same_bits() -> None:
    weight, mask = torch.randn(8, 9), torch.rand(8, 9) > 0.3
    as_bool, as_float = apply_mask(weight, mask), apply_mask(weight, mask.float())
    assert as_bool.dtype == torch.float32
    assert torch.equal(as_bool.view(torch.int32), as_float.view(torch.int32))


def test_initial_scores_have_the_wanted_share_below_the_threshold() -> None:
    scores = initial_scores((500, 400), -0.02, 0.58, torch.Generator().manual_seed(0))
    assert scores.min() >= -0.02
    assert scores.max() < 0.58
    share = 1.0 - keep(scores, 0.01).float().mean().item()
    assert math.isclose(share, 0.05, abs_tol=0.002)


def test_ranked_scores_are_the_same_scores_in_the_order_of_the_magnitudes() -> None:
    weight = torch.tensor([[0.5, -0.1, 3.0], [-0.1, -2.0, 0.0]])
    scores = torch.tensor([[0.6, 0.1, 0.4], [0.2, 0.5, 0.3]])
    ranked = ranked_by_magnitude(scores, weight)
    assert torch.equal(ranked, torch.tensor([[0.4, 0.2, 0.6], [0.3, 0.5, 0.1]]))
