from typing import Any

import pytest

from experiments.published.facts import FACTS, Table8
from experiments.published.figures import FIGURE_RULES, first_lower


def _first(tasks: int) -> Table8:
    """The paper's Table 8 of its first tasks only."""
    added = dict(list(FACTS.table8.added.items())[:tasks])
    return Table8(pretrained=FACTS.table8.pretrained, added=added)


# Numbers that don't agree, one a rule.
BROKEN: dict[str, Any] = {"F3": _first(2)}


@pytest.mark.parametrize("rule", FIGURE_RULES, ids=lambda rule: rule.id)
def test_the_papers_own_numbers_agree_and_broken_ones_do_not(rule: Any) -> None:
    for verdict in rule.on_paper():
        assert verdict.finding.holds is True, verdict.note()
    assert rule.verdict("broken", BROKEN[rule.id]).finding.holds is False


def test_where_masking_is_lower() -> None:
    assert first_lower(FACTS.table8, "kilobytes") == 2
    assert first_lower(FACTS.table8, "parameters") == 3
    assert first_lower(_first(1), "kilobytes") is None
