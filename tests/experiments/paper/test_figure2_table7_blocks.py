from pathlib import Path

import pytest

from experiments.common.scores import Scores
from experiments.paper.figure2_table7_blocks import Direction, Point, blocks_of, counts_of, judge
from tests.support.experiments import picture, run


def test_figure2_and_table7_are_the_same_runs(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = run(tmp_path, tiny_bert, "figure2", "--tasks", "trec")
    learned = capsys.readouterr().err.count("trec: masking")
    assert learned == 5  # three numbers of blocks, two directions; all blocks are all blocks
    table = run(tmp_path, tiny_bert, "table7", "--tasks", "trec")
    assert "trec: masking" not in capsys.readouterr().err
    assert figure["values"] == table["values"]
    blocks = {(point["direction"], point["count"]): point for point in figure["values"]["points"]}
    assert {place: point["blocks"] for place, point in blocks.items()} == {
        ("top-down", 1): "2-2",
        ("top-down", 2): "1-2",
        ("top-down", 3): "0-2",
        ("bottom-up", 1): "0-0",
        ("bottom-up", 2): "0-1",
        ("bottom-up", 3): "0-2",
    }
    block = (4 * 32 * 32 + 2 * 32 * 64) // 8
    sizes = [blocks["top-down", count]["bytes"] for count in (1, 2, 3)]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] == block
    assert picture(tmp_path, "figure2")


def test_blocks_of() -> None:
    assert blocks_of("top-down", 3, 12) == "9-11"
    assert blocks_of("bottom-up", 3, 12) == "0-2"


@pytest.mark.parametrize(
    ("blocks", "steps", "counts"),
    [(6, 3, [2, 4, 6]), (12, 6, [2, 4, 6, 8, 10, 12]), (2, 6, [1, 2]), (3, 3, [1, 2, 3])],
)
def test_counts_of(blocks: int, steps: int, counts: list[int]) -> None:
    assert counts_of(blocks, steps) == counts


def test_the_claim_leaves_out_the_choice_of_all_blocks() -> None:
    def point(direction: Direction, count: int, value: float) -> Point:
        return Point("trec", direction, count, "", Scores((value,)), 1)

    both = [point("top-down", 2, 0.1), point("bottom-up", 2, 0.9)]
    assert judge([point("top-down", 1, 0.8), point("bottom-up", 1, 0.7), *both]).holds
    assert not judge([point("top-down", 1, 0.7), point("bottom-up", 1, 0.8), *both]).holds
