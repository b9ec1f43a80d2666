import asyncio
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from server.engine.batch import Batch
from server.engine.pending import Cost, PendingRequest
from server.engine.queue import RequestQueue
from server.engine.room import Reservation, Speed
from server.errors import InvalidBodyError, QueueFullError, ShuttingDownError
from tests.support.server_parts import features, limits, pending


def slow_queue(seconds: float, *, rows: int = 4, waiting: int = 100) -> RequestQueue:
    """A queue that knows from the batches before that a row has 3 tokens and takes a second."""
    queue = RequestQueue(limits(rows=rows, waiting=waiting, waiting_seconds=seconds))
    queue.note_speed(Cost(rows=1, tokens=3), 1.0)
    return queue


def rows_of(task: str, count: int = 1) -> PendingRequest:
    return pending(task, [features(3)] * count)


def take(queue: RequestQueue) -> Batch:
    batch = queue.take()
    assert batch is not None
    return batch


def answer(batch: Batch) -> None:
    for entry in batch.entries:
        entry.request.add_logits(entry.index, np.zeros(1, np.float32), 0.0, 0.0)


def test_speed_is_that_of_the_last_batches() -> None:
    speed = Speed()
    assert (speed.tokens_per_row, speed.seconds(100)) == (0, 0)
    speed.note(Cost(rows=2, tokens=10), 5.0)
    assert (speed.tokens_per_row, speed.seconds(100)) == (5, 50)
    for _ in range(8):
        speed.note(Cost(rows=1, tokens=20), 0.1)
    assert speed.tokens_per_row == 20
    assert speed.seconds(100) == pytest.approx(0.5)


def test_a_batch_that_was_held_up_does_not_count() -> None:
    speed = Speed()
    for seconds in (0.1, 60.0, 0.1, 0.1):
        speed.note(Cost(rows=1, tokens=20), seconds)
        assert speed.seconds(100) == pytest.approx(0.5)


def test_until_a_speed_is_known_rows_alone_are_limited() -> None:
    queue = RequestQueue(limits(waiting=100, waiting_seconds=1.0))
    for _ in range(100):
        queue.put(rows_of("a"))
    with pytest.raises(QueueFullError, match="100 rows are waiting"):
        queue.reservation(1, "a")


def test_work_is_limited_in_seconds() -> None:
    queue = slow_queue(3.0)
    queue.put(rows_of("a", 2))
    queue.put(rows_of("a", 5))  # only what is before it counts, so that no request is too large for ever
    assert queue.waiting_seconds == 7
    with pytest.raises(QueueFullError, match=r"7\.0 s of work are waiting and the limit is 3") as caught:
        queue.reservation(1, "a")
    assert caught.value.headers == {"retry-after": "7"}


def test_what_is_computed_counts_until_the_next_batch_is_taken() -> None:
    queue = slow_queue(4.0)
    queue.put(rows_of("a", 4))
    batch = take(queue)
    assert (queue.waiting, queue.waiting_seconds) == (0, 4)
    with pytest.raises(QueueFullError):
        queue.reservation(1, "b")
    answer(batch)
    queue.close()
    assert queue.take() is None
    assert queue.waiting_seconds == 0


def test_what_is_being_tokenised_counts_as_it_will_probably_be() -> None:
    queue = slow_queue(3.0)
    with queue.reservation(3, "a"):
        assert queue.waiting_seconds == 3
        with pytest.raises(QueueFullError):
            queue.reservation(1, "a")
    assert queue.waiting_seconds == 0
    with queue.reservation(1, "a"):
        pass


def test_a_flood_for_one_task_does_not_keep_another_out() -> None:
    queue = slow_queue(3.0)
    queue.put(rows_of("flood", 50))
    with pytest.raises(QueueFullError):
        queue.reservation(1, "flood")
    queue.put(rows_of("other"))
    assert "other" in {entry.request.task.digest for entry in take(queue).entries}


def test_many_tasks_wait_for_one_another() -> None:
    queue = slow_queue(10.0)
    for number in range(10):
        queue.put(rows_of(f"task-{number}"))
    with pytest.raises(QueueFullError):
        queue.put(rows_of("one more"))


def test_a_request_keeps_the_room_that_it_holds() -> None:
    queue = slow_queue(2.5)
    with queue.reservation(1, "a") as place:
        queue.put(rows_of("a", 5))
        queue.put(rows_of("a"), place)
    assert queue.waiting == 6
    with queue.reservation(1, "b") as place, pytest.raises(QueueFullError):
        queue.put(rows_of("b", 95), place)  # more rows than were foreseen, and than the queue takes
    assert queue.waiting == 6


async def _ask(queue: RequestQueue, *rows: int) -> list[asyncio.Task[Reservation]]:
    """Calls that wait for room, one behind the other."""
    calls = []
    for count in rows:
        calls.append(asyncio.create_task(queue.wait_for_room(count, "a")))
        await asyncio.sleep(0)
    await _settle()
    return calls


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _done(calls: list[asyncio.Task[Reservation]]) -> list[bool]:
    return [call.done() for call in calls]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def test_room_goes_to_those_who_wait_in_their_order() -> None:
    async def wait() -> None:
        queue = RequestQueue(limits(rows=4, waiting=4))
        queue.put(rows_of("a", 4))
        calls = await _ask(queue, 1, 3, 1)
        assert _done(calls) == [False, False, False]
        take(queue)
        await _settle()
        assert _done(calls) == [True, True, False]  # half of the queue and no more, but whole requests
        assert queue.waiting == 4
        calls[1].result().release()
        await _settle()
        assert _done(calls) == [True, True, True]
        assert queue.waiting == 2

    run(wait())


@pytest.mark.parametrize("event", ["cancelled", "released", "late"])
def test_room_that_appears_wakes_who_waits(event: str) -> None:
    async def wait() -> None:
        queue = RequestQueue(limits(waiting=2))
        waits = rows_of("a")
        queue.put(waits)
        place = queue.reservation(1, "a")
        (call,) = await _ask(queue, 1)
        assert not call.done()
        if event == "released":
            place.release()
        elif event == "cancelled":
            waits.future.cancel()
        else:
            waits.deadline = 0.0
            with pytest.raises(QueueFullError):
                queue.reservation(2, "a")
        await call
        assert queue.waiting == 2

    run(wait())


def test_those_who_wait_leave_room_for_others() -> None:
    async def wait() -> None:
        queue = slow_queue(8.0)
        calls = await _ask(queue, *[1] * 10)
        assert sum(_done(calls)) == 4  # s of work, half of the limit
        with queue.reservation(1, "a"), queue.reservation(1, "a"):
            pass
        for call in calls:
            call.cancel()

    run(wait())


def test_a_wait_that_is_cancelled_gives_the_place_up() -> None:
    async def wait() -> None:
        queue = RequestQueue(limits(waiting=2))
        place = queue.reservation(2, "a")
        first, second = await _ask(queue, 2, 1)
        first.cancel()
        await _settle()
        place.release()
        (await second).release()
        place = queue.reservation(2, "a")
        (third,) = await _ask(queue, 1)
        place.release()  # the third has its room now, and leaves before it learns so
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        assert queue.waiting == 0

    run(wait())


def test_patience_counts_until_the_answer() -> None:
    async def wait() -> None:
        queue = RequestQueue(limits(waiting=4))
        places = [await queue.wait_for_room(1, "a") for _ in range(2)]
        for place in places:
            queue.put(rows_of("a"), place)
        (call,) = await _ask(queue, 1)
        take(queue)
        await _settle()
        assert not call.done()  # two are on their way, half of the queue
        places[0].release()
        await call

    run(wait())


def test_rows_that_nobody_foresaw_are_waited_for_anew() -> None:
    async def wait() -> None:
        queue = RequestQueue(limits(waiting=4))
        place = await queue.wait_for_room(1, "a")
        other = queue.reservation(2, "a")
        widening = asyncio.create_task(queue.widen(place, 3))
        await _settle()
        assert (widening.done(), queue.waiting) == (False, 2)
        other.release()
        await widening
        queue.put(rows_of("a", 3), place)
        place.release()
        assert queue.waiting == 3
        with pytest.raises(InvalidBodyError):
            await queue.widen(place, 5)

    run(wait())


def test_closing_turns_away_who_waits() -> None:
    async def wait() -> None:
        queue = RequestQueue(limits(waiting=1))
        place = queue.reservation(1, "a")
        (call,) = await _ask(queue, 1)
        queue.close()
        with pytest.raises(ShuttingDownError):
            await call
        with pytest.raises(ShuttingDownError):
            await queue.wait_for_room(1, "a")
        place.release()
        assert queue.waiting == 0

    run(wait())
