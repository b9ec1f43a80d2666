import random
import time

import pytest

from server.tasks.names import TaskNames

NAMES = ("sentiment", "names", "endings", "mnli", "qnli", "topic-de", "topic-en", "agreement", "investment")


def names_of(*given: str) -> TaskNames:
    names = TaskNames()
    for name in given:
        names.add(name)
    return names


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("sentment", "sentiment"),
        ("senitment", "sentiment"),
        ("entiment", "sentiment"),
        ("sentiments", "sentiment"),
        ("SENTIMENT", "sentiment"),
        ("sentimant", "sentiment"),
        ("name", "names"),
        ("nli", "mnli"),
        ("topic_de", "topic-de"),
        ("", None),
        ("z", None),
        ("zzz", None),
        ("t" * 200, None),
        ("sentiment" * 9, None),
    ],
)
def test_the_nearest_name(asked: str, meant: str | None) -> None:
    assert names_of(*NAMES).nearest(asked) == meant


def test_any_mistake_in_one_place_is_understood() -> None:
    chance = random.Random(0)
    known = sorted({"".join(chance.choices("abcdefgh-", k=chance.randint(8, 40))) for _ in range(500)})
    names = names_of(*known)
    for name in chance.sample(known, 100):
        place = chance.randrange(len(name))
        assert names.nearest(name[:place] + "x" + name[place:]) == name
        assert names.nearest(name[:place] + name[place + 1 :]) == name
        assert names.nearest(name[:place] + "x" + name[place + 1 :]) == name


def test_names_come_and_go() -> None:
    names = names_of("c", "a", "bb")
    assert (len(names), names.first(2)) == (3, ["a", "bb"])
    names.remove("a")
    names.remove("bb")
    assert (len(names), names.first(2), names.nearest("bb")) == (1, ["c"], None)
    assert TaskNames().nearest("a") is None


def cost(count: int, asked: str) -> float:
    names = names_of(*(f"customer-support-classification-of-incoming-tickets-{i:07d}" for i in range(count)))
    costs = []
    for _ in range(10):
        started = time.thread_time()
        for _ in range(10):
            names.nearest(asked)
        costs.append(time.thread_time() - started)
    return min(costs)


@pytest.mark.parametrize("asked", ["customer-support-classification-of-incoming-tickets-000x1", "x" * 200])
def test_a_look_costs_the_same_however_many_names_there_are(asked: str) -> None:
    assert cost(10_000, asked) < 5 * cost(50, asked)
