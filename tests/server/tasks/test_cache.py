from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from masking import Base, LoadedTask, MaskForm, maskable_linears
from server.tasks.cache import MaskCache
from tests.support.server_parts import SINGLE, Clock, base_of, loaded


@pytest.fixture(scope="module")
def base(tiny_bert: str) -> Base:
    return base_of(tiny_bert)


@pytest.fixture(scope="module")
def tasks(base: Base) -> list[LoadedTask]:
    return [loaded(base, SINGLE, task=f"task-{seed}", seed=seed) for seed in range(4)]


class Caches:
    """Makes caches over one base, with a clock that stands still, and closes them."""

    def __init__(self, base: Base) -> None:
        self.clock = Clock()
        self._linears = maskable_linears(base)
        self._made: list[MaskCache] = []

    def __call__(self, budget: int, *forms: MaskForm) -> MaskCache:
        cache = MaskCache(budget, self._linears, forms=forms or ("unpacked", "folded"), clock=self.clock)
        self._made.append(cache)
        return cache

    def close(self) -> None:
        for cache in self._made:
            cache.close()


@pytest.fixture
def caches(base: Base) -> Iterator[Caches]:
    made = Caches(base)
    yield made
    made.close()


def _bits(task: LoadedTask) -> int:
    return task.members[0].masks.bits


def _use(cache: MaskCache, task: LoadedTask, times: int = 1) -> None:
    for _ in range(times):
        cache.want(task)
        cache.settle()


def _forms(cache: MaskCache, tasks: list[LoadedTask]) -> list[str]:
    held = [cache.held(task.digest) for task in tasks]
    return ["packed" if one is None else one.form for one in held]


def test_a_task_that_nobody_asked_for_is_packed(caches: Caches, tasks: list[LoadedTask]) -> None:
    cache = caches(1 << 30)
    assert cache.masks_of(tasks[0]) == [tasks[0].members[0].masks]
    assert (cache.nbytes, _forms(cache, tasks)) == (0, ["packed"] * 4)


def test_with_room_a_task_gets_the_largest_form(caches: Caches, tasks: list[LoadedTask], base: Base) -> None:
    cache = caches(1 << 30)
    _use(cache, tasks[0])
    (masks,) = cache.masks_of(tasks[0])
    assert masks.form == "folded"
    assert cache.nbytes == cache.bytes_of("folded") == 4 * _bits(tasks[0])
    wanted = tasks[0].members[0].masks.fold(maskable_linears(base))
    for name, mask in masks.layers.items():
        weight = maskable_linears(base)[name].weight
        assert torch.equal(mask.fold(weight), wanted.layers[name].fold(weight))


def test_with_less_room_it_gets_a_smaller_form(caches: Caches, tasks: list[LoadedTask]) -> None:
    cache = caches(4 * _bits(tasks[0]) - 1)
    _use(cache, tasks[0])
    assert _forms(cache, tasks[:1]) == ["unpacked"]
    assert cache.nbytes == cache.bytes_of("unpacked") == _bits(tasks[0])


def test_what_fits_no_budget_stays_packed(caches: Caches, tasks: list[LoadedTask]) -> None:
    for cache in (caches(_bits(tasks[0]) - 1), caches(0)):
        _use(cache, tasks[0], times=3)
        assert (cache.nbytes, _forms(cache, tasks[:1])) == (0, ["packed"])


def test_forms_that_are_of_no_use_here_are_not_made(base: Base, tasks: list[LoadedTask]) -> None:
    cache = MaskCache(1 << 30, maskable_linears(base), forms=())
    _use(cache, tasks[0], times=3)
    assert cache.nbytes == 0
    cache.close()


def test_a_hotter_task_displaces_a_colder_one(caches: Caches, tasks: list[LoadedTask]) -> None:
    cache = caches(4 * _bits(tasks[0]))
    _use(cache, tasks[0])
    _use(cache, tasks[1])
    assert _forms(cache, tasks[:2]) == ["folded", "packed"]  # not clearly hotter
    _use(cache, tasks[1])
    assert _forms(cache, tasks[:2]) == ["packed", "folded"]
    assert cache.nbytes <= cache.budget


def test_heat_fades(caches: Caches, tasks: list[LoadedTask]) -> None:
    cache = caches(4 * _bits(tasks[0]))
    _use(cache, tasks[0], times=8)
    caches.clock.now += 300.0
    _use(cache, tasks[1])
    assert _forms(cache, tasks[:2]) == ["packed", "folded"]


def test_a_pinned_task_is_not_displaced(caches: Caches, tasks: list[LoadedTask]) -> None:
    cache = caches(4 * _bits(tasks[0]))
    _use(cache, tasks[0])
    cache.pin([tasks[0].digest])
    _use(cache, tasks[1], times=9)
    assert _forms(cache, tasks[:2]) == ["folded", "packed"]
    cache.pin([])
    _use(cache, tasks[1])
    assert _forms(cache, tasks[:2]) == ["packed", "folded"]


def test_versions_that_are_served_no_longer_are_dropped(caches: Caches, tasks: list[LoadedTask]) -> None:
    cache = caches(1 << 30)
    for task in tasks:
        _use(cache, task)
    cache.retain({tasks[1].digest, "sha256:never-seen"})
    assert _forms(cache, tasks) == ["packed", "folded", "packed", "packed"]
    cache.retain(())
    assert cache.nbytes == 0


def test_two_versions_of_one_name_are_two_entries(caches: Caches, base: Base) -> None:
    old, new = (loaded(base, SINGLE, task="same", seed=seed) for seed in (0, 1))
    cache = caches(1 << 30)
    _use(cache, old)
    assert _forms(cache, [old, new]) == ["folded", "packed"]


def test_bytes_add_up_under_many_hands(caches: Caches, tasks: list[LoadedTask]) -> None:
    cache = caches(6 * _bits(tasks[0]))

    def ask(first: int) -> None:
        for turn in range(200):
            task = tasks[(first + turn * turn) % 4]
            cache.want(task)
            cache.masks_of(task)
            if turn % 50 == 0:
                cache.retain({tasks[0].digest, tasks[2].digest})
            assert cache.nbytes <= cache.budget

    with ThreadPoolExecutor(4) as threads:
        for one in [threads.submit(ask, first) for first in range(4)]:
            one.result()
    cache.settle()
    held = [cache.held(task.digest) for task in tasks]
    assert cache.nbytes == sum(one.nbytes for one in held if one is not None) <= cache.budget
