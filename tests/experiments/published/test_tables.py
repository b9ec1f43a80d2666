from typing import Any

import pytest

from experiments.published.facts import FACTS, Table8
from experiments.published.tables import (
    L1,
    T1A,
    T1B,
    T2A,
    T2B,
    T2C,
    T3A,
    T3B,
    T3C,
    T3D,
    T3E,
    T4A,
    T4B,
    T5,
    T8,
    TABLE_RULES,
    Search,
)  # fmt: skip

BERT, ROBERTA, DISTILBERT = FACTS.setup.blocks
IMDB = FACTS.table3.imdb


def _scores(*differences: float) -> Any:
    masking = {str(number): 80 + difference for number, difference in enumerate(differences)}
    return {"masking": masking, "finetuning": dict.fromkeys(masking, 80.0)}


def _errors(single: float, ensemble: float, finetuned: float) -> Any:
    tasks = FACTS.table2.errors[BERT]["masking"]["single"]
    return {
        "masking": {"single": dict.fromkeys(tasks, single), "ensemble": dict.fromkeys(tasks, ensemble)},
        "finetuning": {"single": dict.fromkeys(tasks, finetuned), "ensemble": dict.fromkeys(tasks, 5.0)},
    }


def _gains(method: str, source: str, target: str, gain: float) -> Any:
    """The paper's gains but for one cell."""
    gains: Any = {m: {s: dict(row) for s, row in of.items()} for m, of in FACTS.table3.gains.items()}
    gains[method][source][target] = gain
    return gains


def _table8(task: str, **changes: float) -> Table8:
    """The paper's Table 8 but for some addends of masking a task, in parameters."""
    record = FACTS.table8.model_dump()
    record["added"][task]["masking"]["parameters"].update(changes)
    return Table8.model_validate(record)


def _searched(chosen: float) -> Any:
    return {"masking": {"trec": Search(chosen, (1e-4, 3e-4, 5e-4))}, "finetuning": {}}


# Numbers that don't agree, one a rule; those of T1 to T3 do but for one thing.
BROKEN: dict[str, Any] = {
    "T1a": _scores(-1.9, -1.9, 0.5),
    "T1b": _scores(1.0, 1.0, -2.1),
    "T2a": _errors(6.0, 6.1, 6.0),
    "T2b": _errors(6.7, 5.0, 6.0),
    "T2c": {**FACTS.table2.megabytes, "masking": {"single": 447, "ensemble": 475}},
    "T3a": _gains("masking", "sem", "sst2", 9.9),
    "T3b": _gains("finetuning", "sst2", "sem", 0.1),
    "T3c": _gains("masking", "sem", "sem", -0.1),
    "T3d": _gains("masking", "sem", "sst2", 23.0),
    "T3e": {**IMDB, "masking": 83.7},
    "T4a": _searched(5e-4),
    "T4b": {"masking": {"trec": 1e-4, "sem": 3e-5}, "finetuning": {"trec": 3e-5, "sem": 3e-5}},
    "T5": {"trec": {"dev": 548, "test": 501}},
    "L1": {"ner": {"dev": 51_362, "test": 46_435}},
    "T8": _table8("trec", classifier=4614),
}


@pytest.mark.parametrize("rule", TABLE_RULES, ids=lambda rule: rule.id)
def test_the_papers_own_numbers_agree_and_broken_ones_do_not(rule: Any) -> None:
    found = rule.on_paper()
    assert bool(found) is (rule is not T4A)  # the paper does not print the rates that were tried
    for verdict in found:
        assert verdict.finding.holds is True, verdict.note()
    assert rule.verdict("broken", BROKEN[rule.id]).finding.holds is False


def test_no_two_rules_have_an_id() -> None:
    assert len({rule.id for rule in TABLE_RULES}) == len(TABLE_RULES)


def _on_paper(rule: Any) -> list[list[float]]:
    return [[round(v, 2) for v in verdict.finding.values.values()] for verdict in rule.on_paper()]


def test_the_values_are_those_of_the_paper_s_tables() -> None:
    assert _on_paper(T1A) == [[-0.12], [-0.71], [-0.21]]
    assert _on_paper(T1B) == [[-0.7], [-1.8], [-2.0]]
    assert _on_paper(T2A) == [[1, 1], [1, 1], [0.8, 1]]
    assert _on_paper(T2B) == [[-0.08, 0.02], [0.24, 0.17], [0.17, 0.19]]
    assert _on_paper(T2C) == [[447, 474, 438, 1752]]
    assert _on_paper(T3A) == [[20.0, 18.9]]
    assert _on_paper(T3B) == [[-13.4, -10.1]]
    assert _on_paper(T3C) == [[41.8, 11.5, 41.8, 12.2]]
    assert _on_paper(T3D) == [[0.0, 3.3, 1.1, 0.7]]
    assert _on_paper(T3E) == [[84.79, 85.25]]
    assert min(row[0] for row in _on_paper(T4B)) == 1.43
    assert max(row[2] for row in _on_paper(T4B)) == 70
    assert _on_paper(T8) == [[1_204_366_848, 4_817_467.39, 894_654_720, 536_286.82]]


def test_rte_is_not_judged() -> None:
    scores = _scores(0.0, 0.0)
    scores["masking"]["rte"], scores["finetuning"]["rte"] = 10.0, 90.0
    assert T1A.judge(scores).holds is T1B.judge(scores).holds is True
    only = {method: {"rte": row["rte"]} for method, row in scores.items()}
    assert T1A.judge(only).holds is T1B.judge(only).holds is None


def test_a_rate_inside_the_grid() -> None:
    assert T4A.judge(_searched(3e-4)).holds is True
    assert T4A.judge({"masking": {}, "finetuning": {}}).holds is None


def test_sets_as_they_are_distributed_today() -> None:
    assert T5.judge({"cola": {"dev": 1043}, "qnli": {"dev": 5463}}).holds is True
    assert T5.judge({"codah": {"dev": 556}}).holds is None
    assert L1.judge({"ner": {"dev": 51_341}}).holds is True
    assert L1.judge({"pos": {"dev": 1}}).holds is None


def test_tables_8_of_other_tasks_or_another_order_are_not_the_paper_s() -> None:
    added = dict(reversed(list(FACTS.table8.added.items())))
    assert T8.judge(Table8(pretrained=FACTS.table8.pretrained, added=added)).holds is False
