import ctypes
import logging
from threading import Event, Thread, enumerate

import pytest

from server.threads import supervision
from server.threads.supervision import SupervisedThread
from tests.support.serving import wait_until


class Work:
    """Work that dies as often as it is told, then waits until it is let go."""

    def __init__(self, deaths: int = 0, error: type[BaseException] = RuntimeError) -> None:
        self.deaths, self.error = deaths, error
        self.begun = 0
        self.let_go = Event()

    def __call__(self) -> None:
        self.begun += 1
        if self.begun <= self.deaths:
            raise self.error
        while not self.let_go.wait(0.01):
            pass


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, MemoryError])
def test_what_dies_is_started_again(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    work, ends = Work(2, error), list[int]()
    thread = SupervisedThread("worker", work, on_end=lambda: ends.append(1), restart_seconds=0)
    thread.start()
    wait_until(lambda: work.begun == 3)
    assert (thread.alive, thread.running, thread.restarts, thread.failure) == (True, True, 2, None)
    work.let_go.set()
    assert thread.join(20)
    assert (thread.alive, thread.running, ends) == (False, False, [1, 1, 1])
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL] * 2


def test_a_thread_that_is_killed_from_outside_is_started_again() -> None:
    work = Work()
    thread = SupervisedThread("victim", work, restart_seconds=0)
    thread.start()
    wait_until(lambda: work.begun == 1)
    (victim,) = (one for one in enumerate() if one.name == "victim")
    assert victim.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(victim.ident), ctypes.py_object(SystemExit))
    wait_until(lambda: work.begun == 2)
    work.let_go.set()
    assert thread.join(20)


def test_what_dies_again_and_again_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    work, told = Work(99), Event()
    thread = SupervisedThread("worker", work, on_failure=told.set, restart_seconds=0)
    thread.start()
    assert told.wait(20)
    assert thread.join(20)
    assert (work.begun, thread.restarts) == (5, 4)
    assert thread.failure is not None
    assert "the worker died 5 times in a row" in thread.failure
    assert caplog.records[-1].getMessage() == thread.failure


def test_a_thread_that_can_not_be_started_counts_as_one_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    start, work, refused = Thread.start, Work(), list[str]()

    def refuse_twice(thread: Thread) -> None:
        if thread.name == "worker" and len(refused) < 2:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(Thread, "start", refuse_twice)
    thread = SupervisedThread("worker", work, restart_seconds=0)
    thread.start()
    wait_until(lambda: work.begun == 1)
    assert (thread.alive, thread.restarts, thread.failure) == (True, 2, None)
    work.let_go.set()
    assert thread.join(20)


def test_deaths_that_lie_far_apart_are_not_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_SHORT_SECONDS", 0.0)
    work = Work(12)
    thread = SupervisedThread("worker", work, restart_seconds=0)
    thread.start()
    wait_until(lambda: work.begun == 13)
    assert thread.failure is None
    work.let_go.set()
    assert thread.join(20)


def test_what_is_stopped_is_not_started_again() -> None:
    work = Work(1)
    thread = SupervisedThread("worker", work, restart_seconds=60)
    thread.start()
    wait_until(lambda: work.begun == 1)
    thread.stop()
    assert thread.join(20)
    assert (work.begun, thread.failure) == (1, None)


def test_a_join_ends_although_the_work_hangs() -> None:
    work = Work()
    thread = SupervisedThread("worker", work)
    assert thread.join(0)  # never started
    thread.start()
    thread.stop()
    assert not thread.join(0.01)
    work.let_go.set()
    assert thread.join(20)
