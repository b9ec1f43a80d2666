import torch

from masking.binarize import apply_mask, keep


def test_a_score_equal_to_the_threshold_keeps_its_weight() -> None:
    threshold = 0.01
    tau = torch.tensor(threshold)
    below = torch.nextafter(tau, torch.tensor(-1.0))
    above = torch.nextafter(tau, torch.tensor(1.0))
    scores = torch.stack([below, tau, above])
    assert keep(scores, threshold).tolist() == [False, True, True]
    assert keep(scores, threshold, out=torch.empty(3)).tolist() == [0.0, 1.0, 1.0]
    kept = apply_mask(torch.full((3,), 2.0), keep(scores, threshold))
    assert kept.tolist() == [0.0, 2.0, 2.0]


def test_masking_by_booleans_or_by_floats_gives_the_same_bits() -> None:
    weight, mask = torch.randn(8, 9), torch.rand(8, 9) > 0.3
    as_bool, as_float = apply_mask(weight, mask), apply_mask(weight, mask.float())
    assert as_bool.dtype == torch.float32
    assert torch.equal(as_bool.view(torch.int32), as_float.view(torch.int32))
