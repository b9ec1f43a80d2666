from pathlib import Path
from typing import Any

import pytest

from experiments.common.scores import Scores
from experiments.paper.figure1_sparsity import FULL_TASKS, QUICK_SHARES, Point, means, measure, rate_of
from experiments.published.facts import FACTS
from tests.support.experiments import full_context, picture, run


def test_figure1(tmp_path: Path, tiny_bert: str) -> None:
    report = run(tmp_path, tiny_bert, "figure1", "masking_lr=0.005", "--tasks", "sem")
    points = report["values"]["points"]
    assert [point["initial_sparsity"] for point in points] == list(QUICK_SHARES)
    for point in points:
        assert point["final_sparsity"] == pytest.approx(point["initial_sparsity"], abs=0.1)
    assert report["values"]["lr"] == {"sem": 0.005}
    assert [claim["rule"] for claim in report["claims"]] == ["F1a", "F1b", "F1c", "F1d"]
    assert [claim["agrees"] for claim in report["claims"]][3] is None  # neither SST2 nor RTE
    assert picture(tmp_path, "figure1")


def test_the_full_scale_is_the_papers(tmp_path: Path, tiny_bert: str) -> None:
    context = full_context(tmp_path, tiny_bert, "figure1")
    assert FACTS.figure1.batch_size.keys() == set(FULL_TASKS)
    assert [rate_of(context, task) for task in FULL_TASKS] == [5e-5] * 4
    point = measure(context, "sst2", 0.5, seeds=(1,))
    assert point.final == pytest.approx(0.5, abs=0.02)
    wanted: dict[str, Any] = {"initial_sparsity": 0.5, "lr": 5e-5, "blocks": "0-", "batch_size": 128}
    assert context.run("sst2", "masking", seed=1, weights=False, **wanted).value == point.scores.values[0]
    (path,) = (tmp_path / "runs").rglob("results.jsonl")
    assert len(path.read_text().splitlines()) == 1


def test_means_are_in_percent_by_task_and_share() -> None:
    points = [
        Point(task, share, Scores((0.5, 0.6)), share) for task in ("rte", "cola") for share in (0.1, 0.5)
    ]
    row = {0.1: pytest.approx(55.0), 0.5: pytest.approx(55.0)}
    assert means(points) == {"rte": row, "cola": row}
