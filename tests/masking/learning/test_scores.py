import math

import torch

from masking.binarize import apply_mask, keep
from masking.learning.scores import initial_scores, masked_weight
from tests.support.models import saved_for_backward


def test_a_score_equal_to_the_threshold_keeps_its_weight() -> None:
    tau = torch.tensor(0.01)
    scores = torch.stack(
        [torch.nextafter(tau, torch.tensor(-1.0)), tau, torch.nextafter(tau, torch.tensor(1.0))]
    )
    assert masked_weight(torch.full((3,), 2.0), scores, 0.01).tolist() == [0.0, 2.0, 2.0]


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


def test_masking_keeps_nothing_but_what_is_there_anyway_for_the_backward_pass() -> None:
    weight, scores = torch.randn(4, 3), torch.randn(4, 3, requires_grad=True)
    with saved_for_backward() as saved:
        masked_weight(weight, scores, 0.01)
    assert [tensor.data_ptr() for tensor in saved] == [weight.data_ptr()]


def test_initial_scores_have_the_wanted_share_below_the_threshold() -> None:
    scores = initial_scores((500, 400), -0.02, 0.58, torch.Generator().manual_seed(0))
    assert scores.min() >= -0.02
    assert scores.max() < 0.58
    share = 1.0 - keep(scores, 0.01).float().mean().item()
    assert math.isclose(share, 0.05, abs_tol=0.002)
