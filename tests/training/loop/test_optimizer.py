import torch
from torch import nn

from training.loop.optimizer import adam, parameter_groups


def test_adam_without_decay_leaves_alone_what_has_no_gradient() -> None:
    moved, still = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = adam([moved, still], 0.5)
    moved.sum().backward()
    still.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(moved.detach(), torch.full((3,), 0.5))  # Adam's first step is the rate
    assert torch.equal(still, torch.ones(3))


def test_a_trained_head_has_its_own_rate() -> None:
    scores, head = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    learned = {"layer": scores, "head.classifier.weight": head}
    optimizer = adam(parameter_groups(learned, 0.25), 0.5)
    (scores.sum() + head.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(scores.detach(), torch.full((2,), 0.5))
    torch.testing.assert_close(head.detach(), torch.full((2,), 0.75))
    (group,) = parameter_groups(learned, None)
    assert group["params"] == [scores, head]
