from collections.abc import Mapping
from typing import Any

import pytest

from experiments.published.facts import FACTS, Table8
from experiments.published.figures import FIGURE_RULES, ByChoice, BySparsity, by_choice, first_lower


def _first(tasks: int) -> Table8:
    """The paper's Table 8 of its first tasks only."""
    added = dict(list(FACTS.table8.added.items())[:tasks])
    return Table8(pretrained=FACTS.table8.pretrained, added=added)


def _sparsities(**changes: Mapping[float, float]) -> BySparsity:
    """Made-up numbers of figure 1 that agree, since the paper prints none; with changes of tasks' rows."""
    rte = {0.01: 60.0, 0.03: 66.0, 0.05: 68.0, 0.1: 67.0, 0.5: 58.0, 0.9: 54.0, 0.95: 53.0}
    sst2 = {0.01: 91.0, 0.03: 92.0, 0.05: 92.5, 0.1: 92.0, 0.5: 90.0, 0.9: 86.0, 0.95: 60.0}
    return {"rte": {**rte, **changes.get("rte", {})}, "sst2": {**sst2, **changes.get("sst2", {})}}


def _blocks(task: str, direction: Any, values: dict[int, float]) -> ByChoice:
    """The paper's Table 7 with other values of a task at 5 %, by number of blocks."""
    paper = by_choice(FACTS.table7)
    changed = {(direction, count, 0.05): value for count, value in values.items()}
    return {**paper, task: {**paper[task], **changed}}


def _swapped() -> ByChoice:
    other: Any = {"top-down": "bottom-up", "bottom-up": "top-down"}
    return {
        task: {(other[way], count, share): value for (way, count, share), value in row.items()}
        for task, row in by_choice(FACTS.table7).items()
    }


# Made-up numbers that agree, where the paper prints none.
MADE_UP: dict[str, list[Any]] = {
    "F1a": [_sparsities(), _sparsities(rte={0.95: 63.0})],
    "F1b": [_sparsities(), _sparsities(rte={0.5: 70.0})],
    "F1c": [_sparsities(), _sparsities(rte={0.01: 68.0})],
    "F1d": [_sparsities()],
}
# Numbers that don't agree.
BROKEN: dict[str, list[Any]] = {
    "F1a": [_sparsities(rte={0.95: 63.1}), _sparsities(sst2={0.95: 92.5})],
    "F1b": [_sparsities(rte={0.5: 70.1}), _sparsities(sst2={0.01: 95.0})],
    "F1c": [_sparsities(rte={0.01: 70.0})],
    "F1d": [_sparsities(sst2={0.9: 50.0})],
    "F2a": [_swapped()],
    "F2b": [_blocks("mrpc", "bottom-up", {4: 84.3}), _blocks("cola", "bottom-up", {6: 99, 10: 99})],
    "F2c": [_blocks("cola", "top-down", {4: 56.3}), _blocks("rte", "top-down", {4: 65.2})],
    "F3": [_first(2)],
}
# Numbers that lack what a rule asks for.
LACKING: dict[str, list[Any]] = {
    "F1a": [{}, {"rte": {0.05: 60.0}}],
    "F1b": [{}, {"rte": {0.05: 60.0, 0.1: 59.0}}],
    "F1c": [{}, {"rte": {0.03: 60.0, 0.05: 60.0, 0.1: 59.0}}],
    "F1d": [{"rte": {0.05: 60.0, 0.1: 61.0}}],
    "F2a": [{}, {"trec": {("top-down", 2, 0.05): 90.0}}],
    "F2b": [{}, {"trec": {("bottom-up", 2, 0.05): 90.0}}],
    "F2c": [{"trec": by_choice(FACTS.table7)["cola"]}],
    "F3": [],
}


@pytest.mark.parametrize("rule", FIGURE_RULES, ids=lambda rule: rule.id)
def test_the_papers_own_numbers_agree_and_broken_ones_do_not(rule: Any) -> None:
    good = rule.on_paper() + [rule.verdict("made up", numbers) for numbers in MADE_UP.get(rule.id, [])]
    assert good
    for verdict in good:
        assert verdict.finding.holds is True, verdict.note()
    for numbers in BROKEN[rule.id]:
        assert rule.verdict("broken", numbers).finding.holds is False
    for numbers in LACKING[rule.id]:
        assert rule.verdict("lacking", numbers).finding.holds is None


def test_what_the_rules_find_in_table_7() -> None:
    found = {rule.id: rule.on_paper()[0].finding.values for rule in FIGURE_RULES if rule.id.startswith("F2")}
    assert found["F2a"] == {"comparisons": 24, "top-down better": 23}
    gains = {"F2b": {"mrpc": 7.1, "rte": 6.7, "cola": 5.7}, "F2c": {"mrpc": 1.4, "rte": -0.2, "cola": 5.4}}
    for rule, expected in gains.items():
        assert found[rule] == {f"{task}: gain": pytest.approx(gain) for task, gain in expected.items()}


def test_where_masking_is_lower() -> None:
    assert first_lower(FACTS.table8, "kilobytes") == 2
    assert first_lower(FACTS.table8, "parameters") == 3
    assert first_lower(_first(1), "kilobytes") is None
