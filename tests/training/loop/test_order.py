from pathlib import Path

import pytest

from tests.support.learning_data import tiny_options
from training.loop.order import DROPOUT, ORDER, derive_seed, plan_epoch
from training.options import LoopOptions

LENGTHS = [3, 9, 4, 4, 7, 2, 8, 5, 6, 1, 2]


def _options(folder: Path, base: str, **changes: object) -> LoopOptions:
    return tiny_options(folder, base, batch_size=3, accumulate=2, **changes)


@pytest.mark.parametrize("group_by_length", [False, True])
def test_an_epoch_holds_each_example_once_in_steps_of_batches(
    tmp_path: Path, tiny_bert: str, group_by_length: bool
) -> None:
    steps = plan_epoch(LENGTHS, _options(tmp_path, tiny_bert, group_by_length=group_by_length), 0)
    assert [[len(batch) for batch in batches] for batches in steps] == [[3, 3], [3, 2]]
    assert sorted(index for batches in steps for batch in batches for index in batch) == list(range(11))


@pytest.mark.parametrize("group_by_length", [False, True])
def test_the_order_depends_on_seed_and_epoch_alone(
    tmp_path: Path, tiny_bert: str, group_by_length: bool
) -> None:
    one, other = (
        _options(tmp_path, tiny_bert, group_by_length=group_by_length, seed=seed) for seed in (0, 1)
    )
    orders = [plan_epoch(LENGTHS, options, epoch) for options in (one, other) for epoch in (0, 1)]
    assert orders == [plan_epoch(LENGTHS, options, epoch) for options in (one, other) for epoch in (0, 1)]
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))


def test_streams_and_places_have_seeds_of_their_own() -> None:
    seeds = {
        derive_seed(seed, *path) for seed in (0, 1) for path in ((ORDER, 1), (DROPOUT, 0, 1), (ORDER, 0))
    }
    assert len(seeds) == 6
    assert all(0 <= seed < 2**32 for seed in seeds)
