from typing import Any

import pytest

from experiments.published.analysis import ANALYSIS_RULES, Controls, Dissimilarity, Lines


def _masks(lower: float, last: float, *by_block: float, other: float = 0.9) -> Dissimilarity:
    first, second = "sst2, sem", "sst2, cola"
    return Dissimilarity(
        {first: lower, second: lower}, {first: last, second: other}, dict(enumerate(by_block, start=2))
    )


def _lines(*lines: list[float], majority: float = 50.0) -> Lines:
    return Lines({str(number): line for number, line in enumerate(lines)}, majority)


def _agreement(pretrained: float, finetuning: float, masking: float) -> dict[str, float]:
    return {"pretrained": pretrained, "finetuning": finetuning, "masking": masking}


_FLAT, _RISING = [90.0, 88.0, 92.0], [52.0, 50.0, 90.0]
AGREE: dict[str, list[Any]] = {
    "F4": [_agreement(0.6, 0.9, 0.88), _agreement(0.6, 0.7, 0.75)],
    "F5a": [_masks(0.7, 0.8, 0.7, 0.1, 0.8), _masks(0.7, 0.8, 0.6, 0.7, 0.7, 0.75)],
    "F5b": [_masks(0.7, 0.5, 0.7, 0.8)],
    "F6a": [_lines(_FLAT), _lines(_FLAT, [91.0, 95.0, 90.0])],
    "F6b": [_lines(_RISING, [45.0, 50.0, 90.0])],
    "F7a": [_lines(_FLAT)],
    "F7b": [Controls(5, 3, True)],
}
BROKEN: dict[str, list[Any]] = {
    "F4": [_agreement(0.6, 0.9, 0.84), _agreement(0.6, 0.69, 0.7), _agreement(0.9, 0.9, 0.9)],
    "F5a": [_masks(0.8, 0.8, 0.7, 0.8, other=0.8), _masks(0.7, 0.8, 0.8, 0.2, 0.7)],
    "F5b": [_masks(0.7, 0.49, 0.7, 0.8)],
    "F6a": [_lines([90.0, 87.9, 92.0]), _lines(_FLAT, [90.0, 60.0, 90.0])],
    "F6b": [_lines(_RISING, _FLAT), _lines([56.0, 50.0, 90.0]), _lines([50.0, 52.0, 55.0])],
    "F7a": [_lines([90.0, 87.9, 92.0])],
    "F7b": [Controls(3, 1, True), Controls(5, 2, True), Controls(5, 3, False)],
}
LACKING: dict[str, list[Any]] = {
    "F5a": [Dissimilarity({}, {}, {}), _masks(0.7, 0.8, 0.7)],
    "F5b": [Dissimilarity({}, {}, {})],
    "F6a": [_lines(), _lines([54.0, 54.0, 54.0]), _lines(_FLAT, [90.0, 54.9])],
    "F6b": [_lines()],
    "F7a": [_lines([90.0, 54.9])],
}


@pytest.mark.parametrize("rule", ANALYSIS_RULES, ids=lambda rule: rule.id)
def test_made_up_numbers_agree_and_broken_ones_do_not(rule: Any) -> None:
    """The paper prints none."""
    assert rule.on_paper() == []
    for expected, numbers in (
        (True, AGREE[rule.id]),
        (False, BROKEN[rule.id]),
        (None, LACKING.get(rule.id, [])),
    ):
        for own in numbers:
            verdict = rule.verdict("made up", own)
            assert verdict.finding.holds is expected, verdict.note()
