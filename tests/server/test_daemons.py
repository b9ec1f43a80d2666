import asyncio
import threading
from threading import Event

import pytest

from server.daemons import OperatorThreads, in_daemon
from server.errors import ConflictError, OperatorsBusyError


def test_work_is_done_in_a_daemon_thread() -> None:
    async def run() -> threading.Thread:
        return await in_daemon("busy", threading.current_thread)

    thread = asyncio.run(run())
    assert (thread.name, thread.daemon) == ("busy", True)


def test_errors_come_back_and_free_the_thread() -> None:
    def fail(reason: str) -> None:
        raise ConflictError(reason)

    async def run() -> None:
        threads = OperatorThreads("operator", 1, patience_seconds=20)
        for _ in range(3):
            with pytest.raises(ConflictError, match="pinned"):
                await threads.run(fail, "pinned")
        assert await threads.run(len, "abc") == 3

    asyncio.run(run())


def test_a_thread_that_can_not_be_started_is_not_missing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        threads = OperatorThreads("operator", 1, patience_seconds=20)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start"):
                    await threads.run(len, "abc")
        assert await threads.run(len, "abc") == 3

    asyncio.run(run())


def test_threads_that_hang_refuse_more_work_and_nothing_else() -> None:
    let_go = Event()

    async def run() -> None:
        threads = OperatorThreads("operator", 2, patience_seconds=0.05)
        others = OperatorThreads("report", 2)
        hanging = [asyncio.create_task(threads.run(let_go.wait, 20)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OperatorsBusyError):
            await threads.run(len, "abc")
        assert await others.run(len, "abc") == 3
        hanging[0].cancel()  # the client left: the thread is still at work
        with pytest.raises(OperatorsBusyError):
            await threads.run(len, "abc")
        let_go.set()
        assert await hanging[1]
        while True:
            try:
                assert await threads.run(len, "abc") == 3
                break
            except OperatorsBusyError:
                continue

    asyncio.run(run())


def test_a_loop_that_ended_is_not_missed() -> None:
    let_go, over = Event(), Event()

    def work() -> None:
        let_go.wait(20)
        over.set()

    async def run() -> None:
        call = asyncio.create_task(in_daemon("late", work))
        await asyncio.sleep(0)
        call.cancel()

    asyncio.run(run())
    let_go.set()
    assert over.wait(20)
