import gc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event

import pytest

from masking import Base, LoadedTask, load_task
from server.engine.ready_masks import ReadyMasks
from server.errors import ShuttingDownError, TaskUnavailableError
from server.tasks.registry import ServedTask, TaskRegistry
from tests.support.models import random_bundle
from tests.support.server_parts import SINGLE, loaded, ready_masks
from tests.support.serving import wait_until

NAMES = ("a", "b", "c", "d")


class House:
    """Four tasks of one size in service, all cold, with room for two."""

    def __init__(self, base: Base, *, seconds: float = 20.0, required: tuple[str, ...] = ()) -> None:
        self.base = base
        self.registry = TaskRegistry(required)
        self._bundles = {name: random_bundle(base, SINGLE, task=name) for name in NAMES}
        self.size = self.make("a").nbytes
        self.masks = ready_masks(budget=2 * self.size, registry=self.registry, seconds=seconds)
        self.loads: list[str] = []
        self.masks.load_by(self._load)
        for name in NAMES:
            self.registry.put(ServedTask(name, 1, self.make(name).known, datetime.now(UTC), 0.0))

    def make(self, name: str) -> LoadedTask:
        return load_task(self._bundles[name], self.base)

    def _load(self, served: ServedTask) -> LoadedTask:
        self.loads.append(served.name)
        return self.make(served.name)

    def get(self, name: str) -> LoadedTask:
        return wait_for(self.masks.get(self.registry.get(name)))

    def ready(self) -> set[str]:
        return {name for name in NAMES if self.masks.state(self.registry.get(name).digest) == "ready"}


def wait_for(found: LoadedTask | Future[LoadedTask]) -> LoadedTask:
    return found if isinstance(found, LoadedTask) else found.result(30)


@pytest.fixture
def house(base: Base) -> House:
    return House(base)


def test_masks_are_loaded_once_and_found_then(house: House) -> None:
    first = house.get("a")
    assert house.masks.get(house.registry.get("a")) is first
    assert house.loads == ["a"]
    assert (house.masks.ready, house.masks.loading, house.masks.nbytes) == (1, 0, house.size)
    assert house.masks.peek(first.digest) is first
    assert house.masks.newest() is first


def test_the_least_recently_used_go_out(house: House) -> None:
    for name in ("a", "b", "a", "c"):
        house.get(name)
        assert house.masks.nbytes <= 2 * house.size
    assert house.ready() == {"a", "c"}
    assert house.loads == ["a", "b", "c"]


def test_the_budget_is_kept_by_many_at_once(base: Base) -> None:
    house = House(base)
    seen = list[int]()

    def load(served: ServedTask) -> LoadedTask:
        seen.append(house.masks.nbytes)
        return house.make(served.name)

    def use(name: str) -> str:
        return house.get(name).name

    house.masks.load_by(load)
    with ThreadPoolExecutor(4) as users:
        assert list(users.map(use, NAMES * 5)) == [*NAMES * 5]
    assert len(seen) >= len(NAMES)
    assert max(seen) <= 2 * house.size
    assert house.masks.nbytes <= 2 * house.size


@pytest.mark.parametrize("how", ["pinned", "required"])
def test_what_is_to_stay_stays(base: Base, how: str) -> None:
    house = House(base, required=("a",) if how == "required" else ())
    if how == "pinned":
        house.registry.pin("a", 1)
    for name in ("a", "b", "c", "d"):
        house.get(name)
    assert house.ready() == {"a", "d"}
    house.registry.pin("d", 1)
    with pytest.raises(TaskUnavailableError, match=r"no room for the masks of task 'b'.*pinned and required"):
        house.get("b")
    house.registry.pin("d", None)
    house.get("b")
    assert house.ready() == {"a", "b"}


def test_masks_in_use_are_not_freed_and_count(base: Base) -> None:
    house = House(base, seconds=0.2)
    in_use = [house.get("a"), house.get("b")]
    with pytest.raises(TaskUnavailableError, match="the rest is in use"):
        house.get("c")
    assert house.masks.nbytes == 2 * house.size
    assert all(mask.nbytes for task in in_use for mask in task.members[0].masks.layers.values())
    assert house.get("a") is in_use[0]  # they went out, but are still there
    in_use.clear()
    house.get("c")
    assert house.masks.nbytes <= 2 * house.size


def test_masks_that_are_always_in_use_go_out_for_others(house: House) -> None:
    """Requests to two tasks overlap without end; they can't keep a third one out."""
    over = Event()

    def ask(name: str) -> None:
        while not over.is_set():
            in_use = house.get(name)
            over.wait(0.01)
            del in_use

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask, name) for name in ("a", "b", "a", "b")]
        try:
            assert house.get("c").name == "c"
        finally:
            over.set()
        for one in asking:
            one.result(30)
    assert house.masks.nbytes <= 2 * house.size


def test_a_load_waits_for_masks_in_use(house: House) -> None:
    in_use = [house.get("a"), house.get("b")]
    outcome = house.masks.get(house.registry.get("c"))
    assert isinstance(outcome, Future)
    assert house.masks.state(house.registry.get("c").digest) == "loading"
    in_use.pop()
    assert wait_for(outcome).name == "c"


def test_a_shorter_form_of_a_task_holds_its_masks(base: Base) -> None:
    house = House(base, seconds=0.2)
    in_use = [house.get("a").shortened(8), house.get("b").shortened(8)]
    gc.collect()
    with pytest.raises(TaskUnavailableError):
        house.get("c")
    in_use.clear()
    assert house.get("c").name == "c"


def test_many_that_ask_share_one_load(house: House) -> None:
    go_on, load = Event(), house._load

    def slow(served: ServedTask) -> LoadedTask:
        assert go_on.wait(30)
        return load(served)

    house.masks.load_by(slow)
    outcomes = [house.masks.get(house.registry.get("a")) for _ in range(5)]
    assert all(isinstance(one, Future) and not one.cancel() for one in outcomes)
    assert house.masks.loading == 1
    go_on.set()
    found = {id(wait_for(one)) for one in outcomes}
    assert (len(found), house.loads) == (1, ["a"])


def test_a_load_that_fails_is_told_to_all_and_gives_its_room_back(house: House) -> None:
    def fail(served: ServedTask) -> LoadedTask:
        raise TaskUnavailableError(f"{served.name} is broken")

    house.masks.load_by(fail)
    outcome = house.masks.get(house.registry.get("a"))
    with pytest.raises(TaskUnavailableError, match="a is broken"):
        wait_for(outcome)
    wait_until(lambda: house.masks.nbytes == 0)
    assert (house.masks.ready, house.masks.loading) == (0, 0)


def test_what_is_larger_than_all_memory_is_refused(base: Base) -> None:
    task = loaded(base, SINGLE, task="a")
    registry = TaskRegistry()
    masks = ready_masks(budget=task.nbytes - 1, registry=registry)
    masks.load_by(lambda _: task)
    served = ServedTask("a", 1, task.known, datetime.now(UTC), 0.0)
    registry.put(served)
    with pytest.raises(TaskUnavailableError, match=r"they take .*, --mask-memory is"):
        wait_for(masks.get(served))


@pytest.mark.parametrize("large", [1, 2, 3])
def test_nothing_goes_out_for_what_can_not_come_in(base: Base, large: int) -> None:
    house = House(base, required=("a",))
    house.get("a")
    house.get("b")
    whole = house.registry.get("c")
    house.masks.load_by(lambda _: house.make("c"))
    larger = replace(whole, loaded=replace(whole.loaded, ready_bytes=large * house.size))
    house.registry.put(larger)
    if large == 1:
        wait_for(house.masks.get(larger))
    else:
        with pytest.raises(TaskUnavailableError, match="no room for the masks of task 'c'"):
            wait_for(house.masks.get(larger))
    assert house.ready() == ({"a", "c"} if large == 1 else {"a", "b"})


def test_a_version_replaced_at_the_last_moment_is_not_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, serves = house.registry.get("a"), house.registry.serves

    def replaced_then(name: str, digest: str) -> bool:
        found = serves(name, digest)
        if house.loads and found:
            house.registry.remove("a")
            house.masks.drop(digest)
        return found

    monkeypatch.setattr(house.registry, "serves", replaced_then)
    assert wait_for(house.masks.get(served)).name == "a"
    assert house.masks.ready == 0
    wait_until(lambda: house.masks.nbytes == 0)


def test_a_version_that_is_served_no_longer_is_not_kept(house: House) -> None:
    served = house.registry.get("a")
    house.registry.remove("a")
    assert wait_for(house.masks.get(served)).name == "a"
    assert house.masks.ready == 0
    wait_until(lambda: house.masks.nbytes == 0)


def test_what_is_dropped_is_freed_with_its_last_user(house: House) -> None:
    task: LoadedTask | None = house.get("a")
    assert task is not None
    house.masks.drop(task.digest)
    assert (house.masks.ready, house.masks.nbytes) == (0, house.size)
    del task
    assert house.masks.nbytes == 0


def test_masks_fill_the_room_that_is_there_and_no_more(house: House) -> None:
    filled = [house.masks.fill(house.registry.get(name)) for name in NAMES]
    assert filled == [True, True, False, False]
    assert house.ready() == {"a", "b"}


@pytest.mark.parametrize(("evict", "kept"), [(True, {"b", "c"}), (False, {"a", "b"})])
def test_masks_at_hand_are_kept_where_others_may_go_for_them(
    house: House, evict: bool, kept: set[str]
) -> None:
    for name in ("a", "b", "c"):
        house.masks.put(house.make(name), evict=evict)
    assert house.ready() == kept


def test_nothing_is_loaded_once_it_is_closed(house: House) -> None:
    house.masks.close(1.0)
    with pytest.raises(ShuttingDownError):
        wait_for(house.masks.get(house.registry.get("a")))


def test_without_a_budget_all_stay(base: Base) -> None:
    masks = ready_masks(*(loaded(base, SINGLE, task=name) for name in NAMES))
    assert masks.ready == len(NAMES)


def forms(masks: ReadyMasks) -> Callable[[], int]:
    return lambda: masks.held("packed") + masks.held("head") + masks.held("signs")


def test_bytes_are_told_by_form(house: House) -> None:
    house.get("a")
    assert forms(house.masks)() == house.size
    assert house.masks.held("packed") > house.masks.held("head") > 0 == house.masks.held("signs")
