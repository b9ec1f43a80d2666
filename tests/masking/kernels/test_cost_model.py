import pytest

from masking.kernels import Costs, costs
from tests.masking.kernels.conftest import needs_kernels


@needs_kernels
def test_costs_are_measured_once(threads: int) -> None:
    measured = costs()
    assert measured is costs()
    assert set(measured.as_dict()) == {"kernel", "torch", "fold"}
    assert all(value > 0 for value in measured.as_dict().values())


@pytest.mark.parametrize(("torch_product", "long_wins"), [(1.0, True), (0.5, False)])
def test_long_segments_go_to_the_faster_product(torch_product: float, long_wins: bool) -> None:
    model = Costs(kernel=1.0, torch=torch_product, fold=20.0)
    assert model.kernel_wins(8)
    assert model.kernel_wins(512) is long_wins
