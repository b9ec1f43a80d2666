from server.engine.pending import Timings


def test_stages_lie_one_after_the_other() -> None:
    timings = Timings(received=1.0, admitted=1.5, queued=2.0, started=2.25, computed=3.25, finished=3.5)
    tokenize, queue, compute = timings.stages
    assert [stage for stage, _, _ in timings.stages] == ["tokenize", "queue", "compute"]
    assert [end - start for _, start, end in timings.stages] == [0.5, 0.25, 1.0]
    assert (tokenize[2], queue[2]) == (queue[1], compute[1])
    assert (timings.tokenize, timings.queue, timings.compute, timings.total) == (0.5, 0.25, 1.0, 2.5)


def test_a_request_that_was_not_finished_has_no_stages() -> None:
    assert Timings(received=1.0, admitted=1.5, queued=2.0).stages == ()
