from benchmarks.measure.timing import Times, take_turns


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert len(times["a"].wall) == 2


def test_a_stopwatch_of_ones_own() -> None:
    times = take_turns({"a": lambda: None}, 2, stopwatch=lambda run: (3.0, 1.0))
    assert times == {"a": Times((3.0, 3.0), (1.0, 1.0))}


def test_ratios() -> None:
    ours, bound = Times((2.0, 4.0, 8.0), (1.0, 1.0, 1.0)), Times((1.0, 2.0, 2.0), (0.5, 0.5, 0.5))
    assert ours.ratios(bound) == {"min": 2.0, "median": 2.0, "cpu": 2.0}
