import weakref
from collections.abc import Callable
from threading import Event, Thread, active_count

import pytest

from server.threads.load_pool import LoadPool
from tests.support.serving import wait_until


class Loads:
    """Pieces of work that wait until they are let go."""

    def __init__(self) -> None:
        self.let_go = Event()
        self.begun: list[str] = []

    def of(self, task: str) -> Callable[[], None]:
        def work() -> None:
            self.begun.append(task)
            assert self.let_go.wait(60)

        return work


@pytest.fixture
def loads() -> Loads:
    return Loads()


def test_no_more_threads_than_allowed(loads: Loads) -> None:
    pool, done = LoadPool(2, patience=60), []
    for task in "abcd":
        assert pool.submit(task, loads.of(task))
    wait_until(lambda: sorted(loads.begun) == ["a", "b"])
    pool.relieve()
    assert not pool.wait(0.05)
    assert sorted(loads.begun) == ["a", "b"]
    assert pool.busy(60) == set("abcd")
    loads.let_go.set()
    assert pool.wait(60)
    assert sorted(loads.begun) == ["a", "b", "c", "d"]
    assert pool.submit("a", lambda: done.append(1))
    assert pool.wait(60)
    assert done == [1]


def test_one_piece_at_a_time_for_each_task(loads: Loads) -> None:
    pool = LoadPool(1, patience=60)
    assert pool.submit("running", loads.of("running"))
    assert pool.submit("waiting", loads.of("waiting"))
    assert not pool.submit("running", loads.of("running"))
    assert not pool.submit("waiting", loads.of("waiting"))
    loads.let_go.set()
    assert pool.wait(60)
    assert loads.begun == ["running", "waiting"]


def test_work_waits_where_no_thread_can_be_started(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = LoadPool(2, patience=60)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        assert pool.submit("a", loads.of("a"))
        assert pool.submit("b", loads.of("b"))
    assert (loads.begun, pool.busy(60)) == ([], {"a", "b"})
    loads.let_go.set()
    pool.relieve()
    assert pool.wait(60)
    assert sorted(loads.begun) == ["a", "b"]


@pytest.mark.parametrize("slow", [1, 5])
def test_slow_tasks_hold_up_no_other(loads: Loads, slow: int) -> None:
    pool, quick = LoadPool(2, patience=0.02), Event()
    for number in range(slow):
        pool.submit(f"slow-{number}", loads.of(f"slow-{number}"))
    pool.submit("quick", quick.set)

    def served() -> bool:
        pool.relieve()
        return quick.is_set()

    wait_until(served)
    assert len(loads.begun) == slow
    wait_until(lambda: not pool.busy(0.02))  # who takes so long is not waited for
    loads.let_go.set()
    assert pool.wait(60)


def test_work_that_fails_is_over(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("unforeseen")

    pool, done = LoadPool(1), Event()
    pool.submit("a", fail)
    pool.submit("b", done.set)
    assert pool.wait(60)
    assert done.is_set()
    assert "task a: loading failed in an unforeseen way" in caplog.text


def test_close_drops_what_waits_and_does_not_wait_long(loads: Loads) -> None:
    pool = LoadPool(1, patience=60)
    for task in "ab":
        pool.submit(task, loads.of(task))
    assert not pool.close(0.05)
    assert not pool.submit("c", loads.of("c"))
    loads.let_go.set()
    assert pool.wait(60)
    assert loads.begun == ["a"]


def test_threads_end_with_the_work() -> None:
    pool, before = LoadPool(4), active_count()
    for number in range(50):
        pool.submit(str(number), lambda: None)
    assert pool.wait(60)
    wait_until(lambda: active_count() <= before)


def test_tells_how_far_it_is(caplog: pytest.LogCaptureFixture, loads: Loads) -> None:
    pool = LoadPool(1, patience=60)
    for number in range(150):
        pool.submit(str(number), loads.of(str(number)))
    with caplog.at_level("INFO"):
        loads.let_go.set()
        assert pool.wait(60)
    assert "100 of 150 tasks loaded or reported" in caplog.text


def test_nothing_is_kept_of_what_is_done() -> None:
    class Piece:
        def __call__(self) -> None:
            pass

    pool, going_on, started = LoadPool(1), Event(), Event()
    piece = Piece()
    gone = weakref.ref(piece)

    def second() -> None:
        started.set()
        assert going_on.wait(30)

    pool.submit("first", piece)
    pool.submit("second", second)  # in the same thread
    del piece
    assert started.wait(30)
    try:
        assert gone() is None
    finally:
        going_on.set()
    assert pool.wait(30)
