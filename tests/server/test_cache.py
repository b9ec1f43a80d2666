from concurrent.futures import ThreadPoolExecutor

import pytest

from masking import Base, LoadedTask, UnpackedMasks
from server.cache import MaskCache
from tests.server.parts import SINGLE, base_of, loaded


@pytest.fixture(scope="module")
def base(tiny_bert: str) -> Base:
    return base_of(tiny_bert)


@pytest.fixture(scope="module")
def tasks(base: Base) -> list[LoadedTask]:
    return [loaded(base, SINGLE, task=f"task-{seed}", seed=seed) for seed in range(4)]


def _size(task: LoadedTask) -> int:
    return task.masks.unpack().nbytes


def _held(cache: MaskCache, tasks: list[LoadedTask]) -> list[bool]:
    return [cache.held_bytes(task.digest) > 0 for task in tasks]


def test_masks_are_unpacked_once(tasks: list[LoadedTask]) -> None:
    cache = MaskCache(1 << 30)
    masks = cache.masks_of(tasks[0])
    assert isinstance(masks, UnpackedMasks)
    assert cache.masks_of(tasks[0]) is masks
    assert cache.nbytes == cache.held_bytes(tasks[0].digest) == masks.nbytes == _size(tasks[0])


def test_the_masks_are_those_of_the_task(tasks: list[LoadedTask]) -> None:
    cache = MaskCache(1 << 30)
    for task in tasks:
        masks = cache.masks_of(task)
        assert isinstance(masks, UnpackedMasks)
        wanted = task.masks.unpack().tensors
        assert all(masks.tensors[name].equal(tensor) for name, tensor in wanted.items())


def test_what_does_not_fit_at_all_is_run_packed_and_displaces_nothing(tasks: list[LoadedTask]) -> None:
    cache = MaskCache(_size(tasks[0]) - 1)
    assert cache.masks_of(tasks[0]) is tasks[0].masks
    assert cache.nbytes == 0


def test_without_a_budget_everything_is_packed(tasks: list[LoadedTask]) -> None:
    cache = MaskCache(0)
    assert [cache.masks_of(task).form for task in tasks] == ["packed"] * len(tasks)


def test_the_budget_is_used_to_the_last_byte(tasks: list[LoadedTask]) -> None:
    cache = MaskCache(2 * _size(tasks[0]))
    cache.masks_of(tasks[0])
    cache.masks_of(tasks[1])
    assert cache.nbytes == cache.budget
    assert _held(cache, tasks) == [True, True, False, False]


def test_the_least_recently_used_is_dropped_first(tasks: list[LoadedTask]) -> None:
    cache = MaskCache(2 * _size(tasks[0]))
    for index in (0, 1, 0, 2):
        cache.masks_of(tasks[index])
        assert cache.nbytes <= cache.budget
    assert _held(cache, tasks) == [True, False, True, False]


def test_versions_that_are_served_no_longer_are_dropped(tasks: list[LoadedTask]) -> None:
    cache = MaskCache(1 << 30)
    for task in tasks:
        cache.masks_of(task)
    cache.retain({tasks[1].digest, "sha256:never-seen"})
    assert _held(cache, tasks) == [False, True, False, False]
    assert cache.nbytes == _size(tasks[1])
    cache.retain(())
    assert cache.nbytes == 0


def test_two_versions_of_one_name_are_two_entries(base: Base) -> None:
    old, new = (loaded(base, SINGLE, task="same", seed=seed) for seed in (0, 1))
    cache = MaskCache(1 << 30)
    held = cache.masks_of(old)
    assert cache.masks_of(new) is not held
    assert cache.nbytes == _size(old) + _size(new)


def test_bytes_add_up_while_others_drop(tasks: list[LoadedTask]) -> None:
    cache = MaskCache(3 * _size(tasks[0]))

    def drop() -> None:
        for _ in range(200):
            cache.retain({tasks[0].digest})
            assert cache.held_bytes(tasks[3].digest) in (0, _size(tasks[3]))

    with ThreadPoolExecutor(2) as threads:
        droppers = [threads.submit(drop) for _ in range(2)]
        for turn in range(200):
            cache.masks_of(tasks[turn % 4])
            assert cache.nbytes <= cache.budget
        for dropper in droppers:
            dropper.result()
    assert cache.nbytes == sum(cache.held_bytes(task.digest) for task in tasks)
