import torch
from torch import nn

from training.loop.ema import Ema


def test_the_average_follows_the_parameter_step_by_step() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, -1.0]))
    average = Ema({"scores": parameter}, 0.75)
    expected = parameter.detach().clone()
    for _ in range(4):
        parameter.data += torch.tensor([1.0, 0.5])
        expected = 0.75 * expected + 0.25 * parameter.detach()
        average.update()
    torch.testing.assert_close(average.state()["scores"], expected)
    assert parameter.tolist() == [5.0, 1.0]


def test_parameter_and_average_change_places_and_back() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    average = Ema({"scores": parameter}, 0.5)
    parameter.data += 4.0
    average.update()
    average.swap()
    assert parameter.tolist() == [2.0, 2.0]
    assert average.state()["scores"].tolist() == [4.0, 4.0]
    average.swap()
    assert parameter.tolist() == [4.0, 4.0]


def test_the_state_is_a_copy_that_another_average_goes_on_from() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    one = Ema({"scores": parameter}, 0.5)
    state = one.state()
    parameter.data += 8.0
    other = Ema({"scores": parameter}, 0.5)
    other.load_state(state)
    one.update()
    other.update()
    assert state["scores"].tolist() == [0.0, 0.0]
    assert torch.equal(one.state()["scores"], other.state()["scores"])
