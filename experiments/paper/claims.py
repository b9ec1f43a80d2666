"""Claims: a page of every rule, with its verdict on the paper's own numbers and on those measured here.

What was measured is read from the folder of results; see `experiments.published.rules`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common.context import Context
from experiments.common.report import Result, Table
from experiments.errors import ExperimentError
from experiments.published.catalogue import RULES
from experiments.published.facts import FACTS, NOT_PRINTED
from experiments.published.rules import Finding, Rule, Verdict


@dataclass(frozen=True)
class Measured:
    """A rule's verdict in a stored result.

    Attributes:
        source: Name of the result's file, without ending.
        scale: ``quick``, ``reduced``, ``full`` or ``exact``.
        verdict: What was found.
    """

    source: str
    scale: str
    verdict: Verdict


def claims(context: Context) -> Result:
    """List every claim with rule, the paper's values and ours.

    Raises:
        ExperimentError: A file in the folder of results is none.
    """
    measured = list(read_measured(context.results_dir))
    return Result(
        title="The paper's claims",
        tables=[_table(measured)],
        values={
            "rules": [
                {"rule": rule.id, "claim": rule.claim, "condition": rule.condition, "paper": _records(rule)}
                for rule in RULES.values()
            ],
            "measured": [
                {"source": one.source, "scale": one.scale, **one.verdict.record()} for one in measured
            ],
        },
        settings={"Paper": FACTS.paper},
        notes=[
            f'"{NOT_PRINTED}": the paper prints no numbers that the rule could be put to.',
            "A rule's thresholds are ours; each holds on the paper's numbers. Quick and reduced results show "
            "a direction and are no reproduction.",
        ],
        exact=True,
    )


def read_measured(folder: Path) -> Iterator[Measured]:
    """Read the verdicts of all results in a folder, by file name.

    Raises:
        ExperimentError: A file is not a result, or names a rule that does not exist.
    """
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            for claim in record.get("claims", ()):
                rule = RULES[claim["rule"]]
                finding = Finding(claim["values"], claim["agrees"])
                verdict = Verdict(rule.id, rule.claim, rule.condition, claim["subject"], finding)
                yield Measured(path.stem, record["scale"], verdict)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExperimentError(f"{path}: not a result of this command: {error!r}") from None


def _records(rule: Rule[Any]) -> list[dict[str, Any]]:
    return [verdict.record() for verdict in rule.on_paper()]


def _table(measured: Sequence[Measured]) -> Table:
    """Return a row for each verdict: first those on the paper's numbers, then those on ours."""
    rows = []
    for rule in RULES.values():
        printed = [["paper", NOT_PRINTED, *_cells(verdict)] for verdict in rule.on_paper()]
        ours = [
            [one.source, one.scale, *_cells(one.verdict)] for one in measured if one.verdict.id == rule.id
        ]
        found = [
            *(printed or [["paper", *[NOT_PRINTED] * 4]]),
            *(ours or [["ours", *[NOT_PRINTED] * 3, "not measured"]]),
        ]
        for number, cells in enumerate(found):
            rows.append([*((rule.id, rule.claim, rule.condition) if number == 0 else ("", "", "")), *cells])
    return Table(
        ["rule", "the paper says", "agrees where", "numbers", "scale", "of", "values", "verdict"], rows
    )


def _cells(verdict: Verdict) -> list[str]:
    return [verdict.subject, verdict.shown or NOT_PRINTED, verdict.word]
