"""The sign step against its plain statement."""

import pytest
import torch
import torch.nn.functional as F

from masking.kernels import Segments
from masking.kernels.cpu.lines import Finish, add_signs
from tests.masking.kernels.conftest import needs_kernels

pytestmark = needs_kernels


@pytest.mark.parametrize("finish", list(Finish))
def test_is_what_it_says(finish: Finish, threads: int) -> None:
    generator = torch.Generator().manual_seed(threads)
    segments, rows = Segments.of_lengths([1, 30, 9]), 37

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    plain, kept, sums = random(40, rows), random(40, rows), random(40, 1)
    scales, biases = [random(rows).abs() for _ in range(3)], [random(rows) for _ in range(3)]
    owners = torch.repeat_interleave(torch.tensor([1, 30, 9]))
    exact = plain + torch.stack(scales)[owners] * (2 * kept - sums) + torch.stack(biases)[owners]
    if finish in {Finish.GELU, Finish.GELU32}:
        exact = F.gelu(exact)
    found = add_signs((plain.clone(), kept, sums), scales, biases, segments, finish)
    narrow = finish < Finish.FLOAT32
    assert found.dtype == (torch.bfloat16 if narrow else torch.float32)
    torch.testing.assert_close(found.float(), exact, atol=5e-5, rtol=2**-8 if narrow else 1e-5)


def test_what_does_not_belong_together_is_refused() -> None:
    numbers, segments = [torch.zeros(4)], Segments((0, 2))
    products = torch.zeros(2, 4), torch.zeros(2, 4), torch.zeros(2, 1)
    for wrong in (
        ((products[0], products[1][:, :3], products[2]), numbers, numbers, segments),
        (products, [torch.zeros(3)], numbers, segments),
        (products, numbers, [*numbers, *numbers], segments),
        (products, numbers, numbers, Segments((0, 3))),
        (products, [torch.zeros(4, dtype=torch.float64)], numbers, segments),
    ):
        with pytest.raises(ValueError, match="do not belong together"):
            add_signs(*wrong, Finish.FLOAT32)
