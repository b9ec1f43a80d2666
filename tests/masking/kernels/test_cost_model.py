import pytest

from masking.kernels import Costs, costs
from masking.kernels.cost_model import fastest
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


@pytest.mark.parametrize("torch_product", [1.0, 0.8, 0.5])
def test_the_longest_segment_for_the_kernel_is_told(torch_product: float) -> None:
    model = Costs(kernel=1.0, torch=torch_product, fold=20.0)
    most = model.kernel_up_to()
    assert all(model.kernel_wins(tokens) is (tokens <= most) for tokens in range(1, 1000))


def test_the_time_of_measuring_is_limited() -> None:
    runs: list[int] = []
    assert len(fastest([lambda: runs.append(1), lambda: runs.append(2)], seconds=0.0)) == 2
    assert runs == [1, 2]
