"""Catalogue of rules: every claim of the paper that is judged, by id."""

from collections.abc import Mapping
from typing import Any

from experiments.published.analysis import ANALYSIS_RULES
from experiments.published.figures import FIGURE_RULES
from experiments.published.rules import Rule
from experiments.published.tables import TABLE_RULES

RULES: Mapping[str, Rule[Any]] = {rule.id: rule for rule in (*TABLE_RULES, *FIGURE_RULES, *ANALYSIS_RULES)}
