from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.beyond import structure, structured_runs
from experiments.beyond.gathered import Shares, Times
from experiments.beyond.structure import Frontier, Point, fastest
from experiments.beyond.structured_runs import Measured
from experiments.common.scores import Scores
from tests.support.experiments import picture, run
from training.runs import runner


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structured_runs, "EPOCHS", 1)
    monkeypatch.setattr(structure, "SHARES", (0.0, 0.5))
    monkeypatch.setattr(structure, "SHAPE", "tiny")
    monkeypatch.setattr(structure, "BATCHES", {(1, 8): 1, (2, 4): 1})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("more", [(), ("--hold-out", "0.4")], ids=["dev", "test"])
def test_structure(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    arguments = ("structure", "--tasks", "trec", "sem", *more)
    report = run(tmp_path, tiny_bert, *arguments)
    values = report["values"]
    for task in values["tasks"].values():
        none, half = task["shares"]
        assert none["kept"] == {"heads": [1.0] * 3, "neurons": [1.0] * 3}
        assert sum(half["kept"]["heads"]) == pytest.approx(1.5)
        assert sum(half["kept"]["neurons"]) == pytest.approx(1.5)
        assert half["loss"] == pytest.approx(none["mean"] - half["mean"])
        assert half["difference"] < 1e-4
    assert [(one["rows"], one["tokens"]) for one in values["times"]] == [(1, 8), (2, 4)]
    assert picture(tmp_path, "structure")
    markdown = (tmp_path / "out" / "structure-quick.md").read_text()
    assert "| plain mask |" in markdown
    assert ("the sets' own dev rows" in markdown) == bool(more)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made twice")

    monkeypatch.setattr(runner, "learn_model", refuse)
    monkeypatch.setattr(structured_runs, "evaluate", refuse)
    monkeypatch.setattr(structure, "time_gathered", refuse)
    assert run(tmp_path, tiny_bert, *arguments)["values"] == values


def frontier(values: Sequence[float]) -> Frontier:
    kept: Shares = {"heads": [1.0, 0.5], "neurons": [0.5, 0.5]}
    points = [
        Point.of(share, [Measured(value, kept, 1e-6), Measured(value, kept, 2e-6)])
        for share, value in zip((0.0, 0.25, 0.5), values, strict=True)
    ]
    return Frontier("sst2", Scores((0.8, 0.9)), points)


def test_losses_are_against_share_0() -> None:
    own = frontier((0.9, 0.895, 0.85))
    assert own.losses() == pytest.approx([0.0, 0.5, 5.0])
    assert own.points[0].difference == 2e-6
    assert own.points[0].kept == {"heads": [1.0, 0.5], "neurons": [0.5, 0.5]}


def test_the_fastest_share_that_loses_no_more_counts() -> None:
    assert fastest([1.0, 1.2, 1.6], [0.0, 0.5, 1.5], 1.0) == 1.2
    assert fastest([1.0, 1.2, 1.6], [0.0, 1.5, 1.0], 1.0) == 1.6
    assert fastest([1.0, 1.2, 1.6], [0.0, 1.5, 1.1], 1.0) == 1.0


@pytest.mark.parametrize(
    ("speed", "loss", "reached", "adopted"),
    [
        (1.6, 0.5, "reached", "adopted"),
        (1.4, 0.5, "not reached", "adopted"),
        (1.2, 0.5, "not reached", "not adopted"),
        (1.6, 1.5, "not reached", "not adopted"),
    ],
)
def test_verdict(speed: float, loss: float, reached: str, adopted: str) -> None:
    """Of two batches that counts in which it is less fast."""
    times = [Times(1, 8, {"masked": [0.3, 0.2]}, {"masked": [1.0, one]}) for one in (speed, 2 * speed)]
    own = Frontier("sst2", Scores((0.9,)), frontier((0.9, 0.9 - loss / 100, 0.0)).points[:2])
    speeds, verdict = structure._verdict([own], times)
    assert speeds.endswith(f"SST2 {speed if loss <= 1 else 1.0:.2f}.")
    assert verdict.endswith(f"{reached}. As an option of learning, from 1.3 on: {adopted}.")
