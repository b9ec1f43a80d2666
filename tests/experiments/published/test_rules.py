from experiments.published.analysis import ANALYSIS_RULES
from experiments.published.catalogue import RULES
from experiments.published.figures import FIGURE_RULES
from experiments.published.rules import Finding, Rule, at_least, at_most
from experiments.published.tables import TABLE_RULES

RULE = Rule[float]("X1", "more is more.", "it is above 1", lambda x: Finding({"x": x}, x > 1 if x else None))


def test_a_verdict_says_what_was_found() -> None:
    agrees, differs, unknown = (RULE.verdict("here", value) for value in (2.0, 0.5, 0.0))
    assert agrees.note() == "X1. The paper: more is more. Agrees where it is above 1. here: agrees (x 2)."
    assert (differs.word, unknown.word) == ("does not agree", "not measured")
    assert differs.record() == {"rule": "X1", "subject": "here", "values": {"x": 0.5}, "agrees": False}
    assert RULE.on_paper() == []


def test_bounds_are_reached_to_a_binary_fraction_s_error() -> None:
    assert at_least(0.1 + 0.2 - 0.3, 0.0)
    assert at_most(53.1 - 55.1, -2.0)
    assert at_least(53.1 - 55.1, -2.0)
    assert not at_least(-2.001, -2.0)
    assert not at_most(0.501, 0.5)


def test_the_catalogue_has_every_rule_once() -> None:
    assert list(RULES.values()) == [*TABLE_RULES, *FIGURE_RULES, *ANALYSIS_RULES]
    assert all(name == rule.id for name, rule in RULES.items())
    for rule in RULES.values():
        assert rule.claim.endswith(".")
        assert not rule.condition.endswith(".")
