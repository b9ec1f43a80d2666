import pytest
import torch
from torch import Tensor

from experiments.common.dissimilarity import (
    Grid,
    block_means,
    by_block,
    chance,
    dissimilarity,
    mean_grid,
    rises,
)
from experiments.errors import ExperimentError
from masking.architectures import layer_names


def _mask(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def test_s() -> None:
    first, second = _mask([1, 1, 0], [1, 0, 0]), _mask([1, 0, 0], [1, 1, 1])
    assert dissimilarity(first, second) == 3 / 7
    assert dissimilarity(first, second) == dissimilarity(second, first)
    assert dissimilarity(first, first) == 0.0
    assert dissimilarity(first, ~first) == 1.0


def test_masks_that_do_not_compare() -> None:
    with pytest.raises(ExperimentError, match=r"shapes \(1, 2\) and \(1, 3\)"):
        dissimilarity(_mask([1, 1]), _mask([1, 1, 0]))
    with pytest.raises(ExperimentError, match="keep no weight"):
        dissimilarity(_mask([0, 0]), _mask([0, 0]))


def test_chance_is_what_random_masks_give() -> None:
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.rand(400, 400, generator=draw) > zeros for zeros in (0.05, 0.2))
    assert dissimilarity(first, second) == pytest.approx(chance(first, second), rel=0.02)
    assert chance(first, first) == pytest.approx(0.05, rel=0.05)


def test_by_block_leaves_out_the_head_and_what_only_one_masks() -> None:
    names = [name for block in (1, 2, 3) for name in layer_names("bert").in_block(block)]
    first = {name: _mask([1, 1, 0]) for name in [*names, "pooler.dense", "classifier"]}
    second = {name: _mask([1, 0, 0]) for name in names[3:]} | {"classifier": _mask([1, 1, 0])}
    grid = by_block(first, second, "bert")
    assert list(grid) == [1, 2, 3]
    assert list(grid[1]) == ["attention output", "intermediate", "output"]
    assert set(grid[2].values()) == {1 / 3}
    with pytest.raises(ExperimentError, match="no layer in common"):
        by_block(first, {"classifier": _mask([1, 1, 0])}, "bert")


def test_higher_blocks_are_told_from_lower_ones() -> None:
    grids: list[Grid] = [
        {2: {"key": 0.0, "value": 0.2}, 3: {"key": 0.9, "value": 0.9}, 4: {"key": s, "value": s}}
        for s in (0, 1)
    ]
    grid = mean_grid(grids)
    assert grid[4] == {"key": 0.5, "value": 0.5}
    assert block_means(grid) == {2: 0.1, 3: 0.9, 4: 0.5}
    assert rises(grid)
    assert not rises({2: grid[4], 3: grid[2]})
    assert not rises({2: {"key": 0.5}, 3: {"key": 0.54}})
    assert not rises({2: grid[2]})
