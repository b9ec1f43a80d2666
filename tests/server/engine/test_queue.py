import gc
import math
import random
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np
import pytest

from masking.tasks.predictions import Floats
from server.engine.batch import Batch
from server.engine.pending import Cost, DropReason, PendingRequest, cost_of
from server.engine.queue import RequestQueue
from server.engine.retry import group_by_task, task_batch
from server.errors import (
    BackendFailedError,
    DeadlineError,
    InvalidBodyError,
    QueueFullError,
    ShuttingDownError,
)
from tests.support.server_parts import Clock, features, limits, only_digest, pending


def _take(queue: RequestQueue) -> Batch:
    batch = queue.take()
    assert batch is not None
    return batch


def _answer(batch: Batch, started: float = 0.0, now: float = 0.0) -> None:
    for entry in batch.entries:
        entry.request.add_logits(entry.index, np.array([entry.index], dtype=np.float32), started, now)


def _digests(batch: Batch) -> str:
    return "".join(entry.request.task.digest for entry in batch.entries)


def _indices(answers: tuple[Floats, ...]) -> list[float]:
    return [float(logits[0]) for logits in answers]


def test_one_request_is_one_batch() -> None:
    clock = Clock()
    queue = RequestQueue(limits(), clock=clock)
    request = pending("a", [features(3), features(5)])
    queue.put(request)
    assert (queue.waiting, queue.waiting_tokens) == (2, 8)
    batch = _take(queue)
    assert (queue.waiting, queue.waiting_tokens) == (0, 0)
    assert (batch.cost, batch.tasks, batch.padding_tokens) == (Cost(rows=2, tokens=8), 1, 2)
    assert batch.requests == [request]
    _answer(batch, clock.now + 2, clock.now + 5)
    assert request.future.done()
    assert (request.timings.queue, request.timings.compute) == (2, 3)


def test_answers_come_in_the_order_of_the_inputs_not_of_compute() -> None:
    queue = RequestQueue(limits(rows=2))
    request = pending("a", [features(length) for length in (9, 2, 7, 1, 5)])
    queue.put(request)
    sizes = []
    while queue.waiting:
        batch = _take(queue)
        sizes.append([entry.features.longest for entry in batch.entries])
        _answer(batch)
    assert sizes == [[1, 2], [5, 7], [9]]
    assert _indices(request.future.result(0)) == [0, 1, 2, 3, 4]


def test_requests_of_one_task_share_a_batch_and_the_oldest_goes_first() -> None:
    queue = RequestQueue(limits(rows=3))
    requests = [pending("a", [features(4)] * 2) for _ in range(3)]
    for request in requests:
        queue.put(request)
    first, second = _take(queue), _take(queue)
    assert first.requests == requests[:2]
    assert second.requests == requests[1:]
    assert (first.cost.rows, second.cost.rows) == (3, 3)


def test_a_batch_mixes_tasks_and_is_grouped_by_task() -> None:
    queue = RequestQueue(limits())
    requests = [pending("a", [features(3)]), pending("b", [features(4)]), pending("a", [features(5)] * 2)]
    for request in requests:
        queue.put(request)
    batch = _take(queue)
    assert batch.tasks == 2
    task_batches = [task_batch(group) for group in group_by_task(batch.entries)]
    assert [one.task for one in task_batches] == [requests[0].task, requests[1].task]
    assert [[row.longest for row in one.features] for one in task_batches] == [[3, 5, 5], [4]]


def test_tasks_take_turns_input_by_input_from_batch_to_batch() -> None:
    queue = RequestQueue(limits(rows=4))
    queue.put(pending("g", [features(3)] * 7))
    queue.put(pending("s", [features(3)]))
    queue.put(pending("o", [features(3)] * 3))
    assert [_digests(_take(queue)) for _ in range(3)] == ["gsog", "ogog", "ggg"]


@pytest.mark.parametrize("floods", [1, 5])
def test_floods_delay_another_task_by_no_batch_beyond_the_one_in_flight(floods: int) -> None:
    queue = RequestQueue(limits(rows=8))
    for flood in range(floods):
        queue.put(pending(f"flood-{flood}", [features(3)] * 20))
    _take(queue)
    late = pending("late", [features(3)])
    queue.put(late)
    assert late in _take(queue).requests


def test_no_task_waits_longer_than_a_round_where_more_tasks_wait_than_a_batch_takes() -> None:
    queue = RequestQueue(limits(rows=4))
    for number in range(10):
        queue.put(pending(chr(ord("a") + number), [features(3)] * 2))
    assert [_digests(_take(queue)) for _ in range(5)] == ["abcd", "efgh", "ijab", "cdef", "ghij"]


def test_versions_of_one_task_are_groups_of_their_own() -> None:
    queue = RequestQueue(limits())
    queue.put(pending("digest-1", [features(3)]))
    queue.put(pending("digest-2", [features(3)]))
    assert [group[0].request.task.digest for group in group_by_task(_take(queue).entries)] == [
        "digest-1",
        "digest-2",
    ]


def test_tokens_are_counted_without_padding() -> None:
    queue = RequestQueue(limits(tokens=20))
    queue.put(pending("a", [features(2), features(2), features(9), features(10)]))
    batches = [_take(queue), _take(queue)]
    assert [[entry.features.longest for entry in batch.entries] for batch in batches] == [[2, 2, 9], [10]]
    assert [batch.padding_tokens for batch in batches] == [14, 0]


def test_a_large_input_that_does_not_fit_goes_first_into_the_next_batch() -> None:
    queue = RequestQueue(limits(tokens=20))
    queue.put(pending("s", [features(9)] * 9))
    queue.put(pending("L", [features(20)]))
    assert [_digests(_take(queue)) for _ in range(3)] == ["s", "L", "ss"]


def test_an_input_of_several_rows_is_not_torn_apart() -> None:
    queue = RequestQueue(limits(rows=4))
    queue.put(pending("a", [features(3, 3, 3), features(4, 4, 4)]))
    assert [_take(queue).cost.rows, _take(queue).cost.rows] == [3, 3]


@pytest.mark.parametrize("seed", range(20))
def test_random_traffic_keeps_the_limits_and_loses_nothing(seed: int) -> None:
    chance = random.Random(seed)
    bound = limits(rows=chance.randint(3, 9), tokens=chance.randint(60, 200), waiting=10_000)
    queue = RequestQueue(bound)
    requests: list[PendingRequest] = []
    for _ in range(chance.randint(1, 40)):
        inputs = [
            features(*(chance.randint(1, 20) for _ in range(chance.randint(1, 3))))
            for _ in range(chance.randint(1, 8))
        ]
        requests.append(pending(chance.choice("abc"), inputs))
        queue.put(requests[-1])
        if chance.random() < 0.2:
            requests[-1].future.cancel()
    queue.close()
    while (batch := queue.take()) is not None:
        assert batch.cost.rows <= bound.rows
        assert batch.cost.tokens <= bound.tokens
        assert not any(entry.request.future.cancelled() for entry in batch.entries)
        _answer(batch)
    assert (queue.waiting, queue.waiting_tokens) == (0, 0)
    for request in requests:
        assert request.future.cancelled() or _indices(request.future.result(0)) == list(
            range(len(request.features))
        )


def test_an_input_over_the_limits_of_a_batch_is_refused_at_the_door() -> None:
    queue = RequestQueue(limits(rows=2, tokens=20))
    with pytest.raises(InvalidBodyError, match="input 1 alone has 3 rows and a batch takes at most 2"):
        queue.put(pending("a", [features(1), features(1, 1, 1)]))
    with pytest.raises(InvalidBodyError, match=r"input 0 alone has 21 tokens .* at most 20 tokens"):
        queue.put(pending("a", [features(1, 20)]))
    queue.put(pending("a", [features(10, 10)]))
    _take(queue)
    assert queue.waiting == 0


def test_a_full_queue_refuses_whole_requests() -> None:
    queue = RequestQueue(limits(waiting=4))
    queue.put(pending("a", [features(3)] * 3))
    with pytest.raises(QueueFullError, match="3 rows are waiting and the limit is 4"):
        queue.put(pending("a", [features(3)] * 2))
    assert queue.waiting == 3
    queue.put(pending("b", [features(3)]))


def test_a_request_that_can_never_fit_is_not_told_to_come_back() -> None:
    queue = RequestQueue(limits(waiting=4))
    with pytest.raises(InvalidBodyError, match="5 rows and at most 4"):
        queue.put(pending("a", [features(3)] * 5))


def test_retry_after_follows_the_speed_of_the_worker() -> None:
    queue = RequestQueue(limits(waiting=10))
    queue.put(pending("a", [features(3)] * 10))
    for _ in range(100):
        queue.note_speed(Cost(2, 6), 3.0)
    with pytest.raises(QueueFullError) as caught:
        queue.put(pending("a", [features(3)]))
    assert caught.value.headers == {"retry-after": "15"}


def test_a_reservation_holds_room_until_it_ends() -> None:
    queue = RequestQueue(limits(waiting=4))
    with queue.reservation(3):
        assert queue.waiting == 3
        with pytest.raises(QueueFullError), queue.reservation(2):
            pass
        with pytest.raises(QueueFullError):
            queue.put(pending("a", [features(3)] * 2))
    assert queue.waiting == 0
    with pytest.raises(RuntimeError), queue.reservation(4):
        raise RuntimeError
    assert queue.waiting == 0


def test_room_for_several_tasks_is_held_for_all_or_none() -> None:
    queue = RequestQueue(limits(waiting=5))
    first, second = queue.reservations([(1, "a"), (2, "b")])
    assert queue.waiting == 3
    with pytest.raises(QueueFullError):
        queue.reservations([(2, "a"), (1, "b")])
    with pytest.raises(InvalidBodyError, match="6 rows"):
        queue.reservations([(3, "a"), (3, "b")])
    assert queue.waiting == 3
    first.release()
    second.release()
    assert queue.waiting == 0


def test_requests_that_are_put_together_are_one_batch_and_fail_alone() -> None:
    queue = RequestQueue(limits(tokens=10))
    batches: list[Batch] = []
    worker = Thread(target=lambda: batches.append(_take(queue)))
    worker.start()
    requests = [pending("a", [features(3)]), pending("b", [features(11)]), pending("c", [features(4)])]
    places = queue.reservations([(1, request.task.digest) for request in requests])
    queue.put_together(requests, places)
    worker.join(20)
    assert _digests(batches[0]) == "ac"
    assert isinstance(requests[1].future.exception(), InvalidBodyError)
    for place in places:
        place.release()
    assert queue.waiting == 0


def test_a_cancelled_request_is_never_computed() -> None:
    queue = RequestQueue(limits())
    gone, stays = pending("a", [features(3)]), pending("a", [features(3)])
    queue.put(gone)
    queue.put(stays)
    gone.future.cancel()
    assert _take(queue).requests == [stays]


def test_a_task_of_cancelled_requests_gives_no_empty_batch() -> None:
    queue = RequestQueue(limits())
    gone, stays = pending("a", [features(3)]), pending("b", [features(3)])
    queue.put(gone)
    queue.put(stays)
    gone.future.cancel()
    assert _take(queue).requests == [stays]
    assert queue.waiting == 0


def test_a_late_request_is_never_computed_and_fails() -> None:
    clock = Clock()
    queue = RequestQueue(limits(), clock=clock)
    late = pending("a", [features(3)] * 2, deadline=clock.now + 5)
    stays = pending("a", [features(3)], deadline=clock.now + 6)
    queue.put(late)
    queue.put(stays)
    clock.now += 5
    assert _take(queue).requests == [stays]
    assert isinstance(late.future.exception(0), DeadlineError)


def test_dropped_requests_are_counted_once_by_reason() -> None:
    clock, told = Clock(), list[DropReason]()
    queue = RequestQueue(limits(rows=2), clock=clock, on_drop=told.append)
    cancelled, late, given_up = (
        pending("a", [features(3)] * 3, deadline=deadline) for deadline in (math.inf, 101.0, 101.0)
    )
    answered, failed, left = (pending("b", [features(3)] * 2) for _ in range(3))
    for request in (answered, failed, cancelled, late, given_up, left):
        queue.put(request)
    _answer(_take(queue))
    _answer(_take(queue))
    failed.fail(BackendFailedError())
    cancelled.future.cancel()
    clock.now += 1
    given_up.future.cancel()  # by who waited for it until its deadline
    queue.abandon(ShuttingDownError())
    assert sorted(told) == ["abandoned", "cancelled", "expired", "expired"]
    assert isinstance(left.future.exception(0), ShuttingDownError)


@pytest.mark.parametrize("late", [False, True])
def test_requests_that_nobody_waits_for_make_room(late: bool) -> None:
    clock = Clock()
    queue = RequestQueue(limits(waiting=4), clock=clock)
    gone, stays = pending("a", [features(3)] * 3, deadline=101.0), pending("a", [features(3)])
    queue.put(gone)
    queue.put(stays)
    if late:
        clock.now += 1
    else:
        gone.future.cancel()
    queue.put(pending("b", [features(3)] * 3))
    assert (queue.waiting, queue.waiting_tokens) == (4, 12)
    assert gone not in _take(queue).requests


def test_an_answer_for_a_cancelled_request_is_dropped() -> None:
    queue = RequestQueue(limits())
    request = pending("a", [features(3)])
    queue.put(request)
    batch = _take(queue)
    request.future.cancel()
    _answer(batch)
    request.fail(BackendFailedError())
    assert request.future.cancelled()


def test_the_first_outcome_of_a_request_stands() -> None:
    request = pending("a", [features(3), features(3)])
    logits = np.zeros(1, dtype=np.float32)
    request.add_logits(0, logits, 0.0, 0.0)
    request.fail(BackendFailedError())
    request.fail(ShuttingDownError())
    request.add_logits(1, logits, 0.0, 0.0)
    assert isinstance(request.future.exception(0), BackendFailedError)


def test_many_threads_settle_a_request_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            request = pending("a", [features(3)])
            list(threads.map(lambda _, one=request: one.fail(BackendFailedError()), range(8)))
            assert isinstance(request.future.exception(0), BackendFailedError)


def test_the_rest_of_a_failed_request_is_not_computed() -> None:
    queue = RequestQueue(limits(rows=1))
    queue.put(pending("a", [features(3), features(3)]))
    _take(queue).requests[0].fail(BackendFailedError())
    queue.close()
    assert queue.take() is None


def test_time_is_counted_from_the_first_batch_of_a_request() -> None:
    clock = Clock()
    queue = RequestQueue(limits(rows=1), clock=clock)
    request = pending("a", [features(3), features(3)])
    queue.put(request)
    _answer(_take(queue), clock.now + 1, clock.now + 2)
    _answer(_take(queue), clock.now + 5, clock.now + 9)
    assert request.future.done()
    assert (request.timings.queue, request.timings.compute) == (1, 8)


def test_a_batch_that_is_not_full_waits_for_company() -> None:
    queue = RequestQueue(limits(rows=3, wait_seconds=60.0), clock=Clock())
    taken: list[Batch] = []
    worker = Thread(target=lambda: taken.append(_take(queue)), daemon=True)
    queue.put(pending("a", [features(3)]))
    worker.start()
    queue.put(pending("b", [features(3)] * 2))  # full now, of both tasks together
    worker.join(10)
    assert [(batch.cost.rows, batch.reason) for batch in taken] == [(3, "full_rows")]


def test_an_old_batch_leaves_although_it_is_not_full() -> None:
    clock = Clock()
    queue = RequestQueue(limits(rows=3, wait_seconds=60.0), clock=clock)
    queue.put(pending("a", [features(3)]))
    clock.now += 59
    queue.put(pending("b", [features(3)]))
    assert queue.oldest_seconds == 59
    clock.now += 1
    batch = _take(queue)
    assert (_digests(batch), batch.reason) == ("ab", "waited")
    assert queue.oldest_seconds == 0


@pytest.mark.parametrize(
    ("lengths", "closed", "reason"),
    [
        ([3, 3], False, "idle"),
        ([3, 3], True, "drained"),
        ([3, 3, 3], False, "full_rows"),
        ([3, 3, 3, 3], True, "full_rows"),
        ([10, 10], False, "full_tokens"),
        ([10, 9, 2], False, "full_tokens"),
    ],
)
def test_a_batch_knows_why_it_was_closed(lengths: list[int], closed: bool, reason: str) -> None:
    queue = RequestQueue(limits(rows=3, tokens=20))
    queue.put(pending("a", [features(length) for length in lengths]))
    if closed:
        queue.close()
    assert _take(queue).reason == reason


def test_closing_hands_out_what_waits_and_then_ends() -> None:
    queue = RequestQueue(limits(wait_seconds=60.0), clock=Clock())
    queue.put(pending("a", [features(3)]))
    queue.close()
    assert not queue.drained
    with pytest.raises(ShuttingDownError):
        queue.put(pending("a", [features(3)]))
    with pytest.raises(ShuttingDownError), queue.reservation(1):
        pass
    assert _take(queue).cost.rows == 1
    assert queue.take() is None
    assert queue.drained


def test_closing_wakes_a_worker_that_waits() -> None:
    queue = RequestQueue(limits())
    taken: list[Batch | None] = []
    worker = Thread(target=lambda: taken.append(queue.take()), daemon=True)
    worker.start()
    queue.close()
    worker.join(10)
    assert taken == [None]


def test_abandoning_fails_everything_that_waits() -> None:
    queue = RequestQueue(limits())
    requests = [pending(digest, [features(3)] * 2) for digest in "ab"]
    for request in requests:
        queue.put(request)
    queue.close()
    queue.abandon(ShuttingDownError())
    assert queue.drained
    assert queue.waiting == 0
    for request in requests:
        assert isinstance(request.future.exception(0), ShuttingDownError)


def test_an_ensemble_costs_as_many_rows_as_it_has_members() -> None:
    assert cost_of(only_digest("a"), features(3, 4)) == Cost(rows=2, tokens=7)
    assert cost_of(only_digest("a", members=3), features(3, 4)) == Cost(rows=6, tokens=21)


def _cost_of_a_refusal(waiting: int) -> float:
    """Processor seconds of this thread for one refusal, at the best of several tries."""
    queue = RequestQueue(limits(waiting=waiting))
    for number in range(waiting):
        queue.put(pending("abc"[number % 3], [features(3)]))
    costs = []
    for _ in range(10):
        started = time.thread_time()
        for _ in range(20):
            with pytest.raises(QueueFullError):
                queue.reservation(1)
        costs.append((time.thread_time() - started) / 20)
    return min(costs)


def test_a_refusal_costs_the_same_however_many_wait() -> None:
    assert _cost_of_a_refusal(8192) < 10 * _cost_of_a_refusal(64)


def test_what_is_cancelled_leaves_the_queue_at_once() -> None:
    told = list[DropReason]()
    queue = RequestQueue(limits(), on_drop=told.append)
    gone, stays = pending("a", [features(3)] * 4), pending("a", [features(5)])
    queue.put(gone)
    queue.put(stays)
    gone.future.cancel()
    assert (queue.waiting, queue.waiting_tokens, told) == (1, 5, ["cancelled"])
    stays.fail(BackendFailedError())
    assert (queue.waiting, queue.waiting_tokens, told) == (0, 0, ["cancelled"])


def test_nothing_keeps_a_request_that_left() -> None:
    queue = RequestQueue(limits())
    request = pending("a", [features(3)])
    queue.put(request)
    request.future.cancel()
    left = weakref.ref(request)
    gc.disable()
    try:
        del request
        assert left() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_in_whatever_order_the_counts_are_right(seed: int) -> None:
    chance, clock = random.Random(seed), Clock()
    dropped, taken = list[DropReason](), 0
    queue = RequestQueue(limits(rows=5, tokens=90, waiting=60), clock=clock, on_drop=dropped.append)
    alive: dict[PendingRequest, set[int]] = {}
    gone = {"cancelled": 0, "expired": 0}

    def waiting() -> Cost:
        return sum((cost_of(one.task, one.features[i]) for one in alive for i in alive[one]), Cost())

    def put() -> None:
        inputs = [features(*chance.choices(range(1, 20), k=chance.randint(1, 3))) for _ in range(4)]
        request = pending(chance.choice("abc"), inputs, deadline=clock.now + 10)
        fits = waiting().rows + request.cost.rows <= 60
        try:
            queue.put(request)
        except QueueFullError:
            assert not fits
        else:
            alive[request] = set(range(len(inputs)))

    def cancel() -> None:
        if alive:
            request = chance.choice(list(alive))
            gone["cancelled"] += bool(alive.pop(request))
            assert request.future.cancel()

    def pass_time() -> None:
        clock.now += chance.choice([0.1, 4])
        late = [one for one in alive if clock.now >= one.deadline]
        queue._drop_late()  # as every refusal does
        for one in late:
            gone["expired"] += bool(alive.pop(one))
            assert isinstance(one.future.exception(0), DeadlineError)

    def take() -> None:
        nonlocal taken
        if waiting().rows:
            batch = _take(queue)
            assert batch.cost.rows <= 5
            assert batch.cost.tokens <= 90
            for entry in batch.entries:
                alive[entry.request].remove(entry.index)
                taken += 1
            if chance.random() < 0.8:
                _answer(batch)
            else:
                for request in batch.requests:
                    request.fail(BackendFailedError())
                    alive.pop(request)
            for request in [one for one in alive if one.future.done()]:
                assert not alive.pop(request)

    for _ in range(300):
        chance.choice([put, put, put, cancel, pass_time, take, take])()
        cost = waiting()
        assert (queue.waiting, queue.waiting_tokens) == (cost.rows, cost.tokens)
    assert taken > 50
    assert {reason: dropped.count(reason) for reason in gone} == gone  # type: ignore[arg-type]
