"""Evaluations: a small one, with everything that is hard to write down."""

from typing import Any

from training.judging.evaluation import Bin, ClassScores, Confusion, Evaluation, WorstError


def evaluation_of(**changes: Any) -> Evaluation:
    """Twenty answers of a task with two labels."""
    fields: dict[str, Any] = {
        "kind": "sequence-classification",
        "file": "dev.jsonl",
        "examples": 20,
        "unusable": 1,
        "metric": "accuracy",
        "metrics": {"accuracy": 0.8, "f1_macro": 0.7917},
        "baseline": 0.5,
        "baseline_answer": "'a' for everything",
        "classes": (
            ClassScores("a", 9 / 12, 0.9, 9 / 11, 10),
            ClassScores("b", 7 / 8, 0.7, 7 / 9, 10),
        ),
        "confusion": (
            Confusion("a", "a", 9),
            Confusion("b", "b", 7),
            Confusion("b", "a", 3),
            Confusion("a", "b", 1),
        ),
        "calibration_error": 0.05,
        "bins": (Bin(0.5, 0.6, 10, 0.55, 0.6), Bin(0.9, 1.0, 10, 0.95, 1.0)),
        "worst": (WorstError(7, "<b>odd</b> & bad", "a", "b", 0.9),),
    }
    return Evaluation(**fields | changes)
