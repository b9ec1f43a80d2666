import torch
from torch import nn

from training.optimizer import adam


def test_adam_without_decay_leaves_alone_what_has_no_gradient() -> None:
    moved, still = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = adam([moved, still], 0.5)
    moved.sum().backward()
    still.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(moved.detach(), torch.full((3,), 0.5))  # Adam's first step is the rate
    assert torch.equal(still, torch.ones(3))
