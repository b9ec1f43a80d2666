from pathlib import Path

import pytest

from experiments.common.scores import Scores
from experiments.paper.figure1_sparsity import QUICK_SHARES, Point, judge, rates_of
from masking import MaskSettings
from tests.support.experiments import picture, run


def test_figure1(tmp_path: Path, tiny_bert: str) -> None:
    report = run(tmp_path, tiny_bert, "figure1", "--tasks", "sem")
    points = report["values"]["points"]
    assert [point["initial_sparsity"] for point in points] == list(QUICK_SHARES)
    for point in points:
        assert point["mean"] == max(scores["mean"] for scores in point["by_lr"].values())
        assert point["final_sparsity"] == pytest.approx(point["initial_sparsity"], abs=0.1)
        assert len(point["by_lr"]) == (1 if point["initial_sparsity"] == 0.05 else 2)
    assert picture(tmp_path, "figure1")


def test_the_rate_is_scaled_by_the_width_of_the_range() -> None:
    assert rates_of(0.05, 0.05, 1e-3) == (1e-3,)
    assert rates_of(0.05, 0.5, 1e-3) == (1e-3, 1e-4)
    widths = [MaskSettings(initial_sparsity=share).score_range for share in (0.05, 0.5)]
    assert widths[1] / widths[0] == pytest.approx(1e-4 / 1e-3)


@pytest.mark.parametrize(("best", "holds"), [(0.03, True), (0.1, True), (0.15, False), (0.01, False)])
def test_the_claim(best: float, holds: bool) -> None:
    shares = (0.01, 0.03, 0.1, 0.15)
    points = [
        Point(task, share, {1e-3: Scores((0.9 if share == best else 0.8,))}, share)
        for task in ("trec", "sem")
        for share in shares
    ]
    assert judge(points).holds is holds
