import math

import torch

from masking.binarize import apply_mask, binarize, initial_scores, keep


def test_a_score_equal_to_the_threshold_keeps_its_weight() -> None:
    threshold = 0.01
    tau = torch.tensor(threshold)
    below = torch.nextafter(tau, torch.tensor(-1.0))
    above = torch.nextafter(tau, torch.tensor(1.0))
    scores = torch.stack([below, tau, above])
    assert keep(scores, threshold).tolist() == [False, True, True]
    assert binarize(scores, threshold).tolist() == [0.0, 1.0, 1.0]


def test_training_and_export_agree_on_every_bit() -> None:
    scores = torch.randn(50, 33) * 0.02
    scores[0, :5] = 0.01
    assert torch.equal(binarize(scores, 0.01).bool(), keep(scores, 0.01))


def test_gradient_of_a_score_is_the_gradient_of_its_bit() -> None:
    scores = (torch.randn(4, 3) * 5).requires_grad_()
    weight, inputs = torch.randn(4, 3), torch.randn(7, 3)
    upstream = torch.randn(7, 4)
    (inputs @ apply_mask(weight, binarize(scores, 0.01)).T).backward(upstream)
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, (upstream.T @ inputs) * weight)


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
