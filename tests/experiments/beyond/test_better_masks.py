from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import main
from experiments.beyond import better_masks
from experiments.beyond.better_masks import (
    BASELINE,
    FINETUNED,
    OTHERS,
    PAPER,
    Learned,
    Row,
    beside,
    can_win,
    verdict,
)
from tests.support.experiments import command, run, write_tasks
from training.runs import runner

VARIANTS = (BASELINE, *OTHERS, PAPER, FINETUNED)


def _learn(folder: Path, base: str) -> dict[str, Any]:
    report = run(folder, base, "better-masks", "--tasks", "trec", "sst2", "--hold-out", "0.25")
    values: dict[str, Any] = report["values"]
    return values


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(better_masks, "SHARED", ("sem", "codah"))


@pytest.mark.usefixtures("shared")
def test_every_variant_is_measured_beside_the_baseline_and_learned_once(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(better_masks, "ENOUGH", 0)  # whoever loses goes on
    values = _learn(tmp_path, tiny_bert)
    assert set(values) == {variant.name for variant in VARIANTS}
    before = values[BASELINE.name]
    assert (before["gain"], before["won"], before["bytes_added"]) == (0, 0, 0)
    for found in values.values():
        gained = [one["mean"] - before["tasks"][task]["mean"] for task, one in found["tasks"].items()]
        assert len(gained) == 2
        assert found["gain"] == pytest.approx(sum(gained) / 2)
        assert found["won"] == sum(gain > 0 for gain in gained)
    added = {name: found["bytes"] - before["bytes"] for name, found in values.items()}
    scaled, dense, soft, fewer, dropped = (added[variant.name] for variant in OTHERS)
    assert dense > scaled > soft > 0 > fewer
    assert dropped == added[FINETUNED.name] == 0
    text = (tmp_path / "out" / "better-masks-quick.md").read_text()
    assert "| what differs | TREC, accuracy | SST2, accuracy | gain | won |" in text

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("learned twice")

    monkeypatch.setattr(runner, "learn_model", refuse)
    assert _learn(tmp_path, tiny_bert) == values
    monkeypatch.setattr(better_masks, "ENOUGH", 5)
    fewer_runs = _learn(tmp_path, tiny_bert)
    for name, found in fewer_runs.items():
        lost = values[name]["tasks"]["trec"]["mean"] <= before["tasks"]["trec"]["mean"]
        assert name == BASELINE.name or set(found["tasks"]) == ({"trec"} if lost else {"trec", "sst2"})
    text = (tmp_path / "out" / "better-masks-quick.md").read_text()
    assert "No verdict: a variant must win 5 tasks, and there are 2." in text


def test_rows_that_chose_the_epoch_do_not_judge_it(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "data")
    assert main(command(tmp_path, tiny_bert, "better-masks", "--tasks", "trec")) == 2
    assert "give --hold-out SHARE" in capsys.readouterr().err


def _learned(*values: float, nbytes: int = 1000) -> list[Learned]:
    return [Learned(value=value, chosen=0.5, best_epoch=1, nbytes=nbytes, seconds=1.0) for value in values]


def test_a_variant_is_compared_task_by_task() -> None:
    before = {"trec": _learned(0.8, 0.9), "sem": _learned(0.5, 0.5, nbytes=3000)}
    own = {"trec": _learned(0.88, 0.88, nbytes=1100), "sem": _learned(0.49, 0.49, nbytes=3100)}
    row = beside(OTHERS[0], own, before)
    assert row.gain == pytest.approx((3 - 1) / 2)
    assert row.won == 1
    assert row.nbytes == 2100
    assert row.added == pytest.approx(0.05)
    assert row.removed == pytest.approx((3 / 15 - 1 / 50) / 2)


@pytest.mark.parametrize(
    ("gained", "left", "may"),
    [
        ([], 5, True),
        ([0.1, 0.2], 3, True),
        ([0.1, 0.0], 3, False),
        ([-1.0], 5, True),
        ([-1.0, 1.0, -0.1], 3, False),
        ([0.1], 1, True),
        ([-0.1], 1, False),
    ],
)
def test_a_variant_goes_on_as_long_as_it_may_win_enough_tasks(
    gained: list[float], left: int, may: bool
) -> None:
    tasks = ("trec", "cola", "mrpc", "sem", "sst2", "rte", "qnli")
    assert can_win(dict(zip(tasks, gained, strict=False)), tasks[len(gained) :][:left]) == may


def _row(**changes: Any) -> Row:
    tasks = ("trec", "cola", "mrpc", "sem", "sst2")
    before = {task: _learned(0.8) for task in tasks}
    row = beside(OTHERS[0], {task: _learned(0.82) for task in tasks}, before)  # a tenth of the errors
    return replace(row, **changes)


@pytest.mark.parametrize(
    ("changes", "wins"),
    [({}, True), ({"added": 0.09}, True), ({"added": 0.11}, False), ({"won": 4}, False)],
)
def test_a_winner_is_better_on_five_tasks_and_earns_its_bytes(changes: dict[str, Any], wins: bool) -> None:
    row = _row(**changes)
    assert row.wins == wins
    told = verdict([row], 5)
    assert ("none wins" not in told) == wins
    assert OTHERS[0].name in told


def test_the_best_is_named_where_none_wins() -> None:
    rows = [_row(won=3, gain=2.0), _row(variant=OTHERS[1], won=4, gain=1.0)]
    assert verdict(rows, 5).startswith(f"Verdict: none wins. Best is {OTHERS[1].name} (4 of 5 tasks, +1.00")
    both = [_row(gain=1.0), _row(variant=OTHERS[1], gain=2.0)]
    assert verdict(both, 5).index(OTHERS[1].name) < verdict(both, 5).index(OTHERS[0].name)


def test_no_two_variants_have_one_name() -> None:
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
