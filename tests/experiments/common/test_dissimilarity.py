import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from experiments.common.dissimilarity import LearnedMasks, block_means, by_block, dissimilarity, mean_grid
from experiments.errors import ExperimentError
from masking.architectures import layer_names

_LAYER = "layer"
_BITS = st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=20)


def _mask(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def _learned(task: str, before: Tensor, after: Tensor) -> LearnedMasks:
    return LearnedMasks(task, {_LAYER: before}, {_LAYER: after})


def _s(before: Tensor, first: Tensor, second: Tensor) -> float:
    return dissimilarity(_learned("a", before, first), _learned("b", before, second), _LAYER)


def test_s_is_the_share_of_changes_that_are_not_shared() -> None:
    start = _mask([1, 1, 1, 1, 0, 0])
    first, second = _mask([0, 0, 1, 1, 0, 0]), _mask([0, 1, 1, 1, 1, 0])
    assert _s(start, first, second) == 2 / 4  # two changes each, one of them the same
    assert _s(start, first, second) == _s(start, second, first)
    assert _s(start, first, first) == 0.0
    assert _s(start, first, _mask([1, 1, 0, 0, 0, 0])) == 1.0
    assert _s(start, first, start) == 1.0
    assert _s(start, start, start) == 0.0  # nothing learned


@given(_BITS)
def test_s_lies_between_0_and_1(bits: list[tuple[bool, bool, bool]]) -> None:
    start, first, second = (_mask([int(bit) for bit in column]) for column in zip(*bits, strict=True))
    assert 0.0 <= _s(start, first, second) <= 1.0


def test_masks_that_do_not_compare() -> None:
    with pytest.raises(ExperimentError, match=r"shapes \(1, 2\) and \(1, 3\)"):
        dissimilarity(
            _learned("a", _mask([1, 1]), _mask([1, 1])),
            _learned("b", _mask([1, 1, 0]), _mask([1, 1, 0])),
            _LAYER,
        )
    with pytest.raises(ExperimentError, match="masks of a and b did not start equal"):
        dissimilarity(
            _learned("a", _mask([1, 1]), _mask([1, 1])), _learned("b", _mask([1, 0]), _mask([1, 1])), _LAYER
        )


def test_by_block_leaves_out_what_only_one_masks() -> None:
    names = [name for block in (1, 2, 3) for name in layer_names("bert").in_block(block)]
    start = dict.fromkeys(names, _mask([1, 1, 0]))
    one = LearnedMasks("a", start, dict.fromkeys(names, _mask([0, 1, 0])))
    other = LearnedMasks("b", start, dict.fromkeys(names[3:], _mask([0, 0, 0])))
    grid = by_block(one, other, "bert")
    assert list(grid) == [1, 2, 3]
    assert list(grid[1]) == ["attention output", "intermediate", "output"]
    assert set(grid[2].values()) == {1 / 3}
    with pytest.raises(ExperimentError, match="no layer in common"):
        by_block(one, LearnedMasks("b", {}, {}), "bert")


def test_means() -> None:
    grids = [{2: {"key": 0.0, "value": 0.2}, 4: {"key": s, "value": s}} for s in (0.0, 1.0)]
    grid = mean_grid(grids)
    assert grid[4] == {"key": 0.5, "value": 0.5}
    assert block_means(grid) == {2: 0.1, 4: 0.5}
