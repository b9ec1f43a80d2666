from pathlib import Path

import pytest

from experiments.common.scores import majority_value
from mask_store import TaskKind
from tests.support.learning_data import tiny_options, write_lines
from training.runs.preparation import prepare


@pytest.mark.parametrize(
    ("kind", "rows", "share"),
    [
        ("sequence-classification", [{"text": "the plot", "label": label} for label in "aab"], 2 / 3),
        ("token-classification", [{"tokens": ["a", "b", "c"], "tags": ["O", "O", "X"]}], 2 / 3),
        (
            "multiple-choice",
            [{"context": "a", "choices": ["b", "c"], "label": i} for i in (1, 1, 1, 0)],
            3 / 4,
        ),
    ],
)
def test_the_share_of_the_most_frequent_label(
    tmp_path: Path, tiny_bert: str, kind: TaskKind, rows: list[dict[str, object]], share: float
) -> None:
    options = tiny_options(tmp_path, tiny_bert, kind)
    for split in ("train", "dev"):
        write_lines(tmp_path / f"{split}.jsonl", rows)
    dev = prepare(options).encoded.dev
    assert majority_value(dev, "accuracy") == pytest.approx(share)
    assert majority_value(dev, "matthews_correlation") == majority_value(dev, "f1") == 0.0
