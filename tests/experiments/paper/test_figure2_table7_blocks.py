from pathlib import Path

import pytest

from experiments.common.scores import Scores
from experiments.paper.figure2_table7_blocks import Measured, Row, choices, papers_cell, rows_of, table7
from experiments.published.facts import FACTS
from experiments.published.figures import by_choice
from tests.support.experiments import full_context, picture, run
from training.runs.rate_search import Grid


def test_figure2_and_table7_are_the_same_runs(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = run(tmp_path, tiny_bert, "figure2", "--tasks", "trec")
    told = capsys.readouterr().err
    assert told.count("trec: masking") == 2 * 5  # three numbers of blocks, two directions, all blocks once
    assert told.count("trec: finetuning") == 1
    table = run(tmp_path, tiny_bert, "table7", "--tasks", "trec")
    assert "trec: masking" not in capsys.readouterr().err
    assert figure["values"] == table["values"]
    assert [claim["rule"] for claim in table["claims"]] == ["F2a", "F2b", "F2c"]
    tuned, *masked = table["values"]["rows"]
    assert (tuned["method"], tuned["blocks"]) == ("finetuning", None)
    block = (4 * 32 * 32 + 2 * 32 * 64) // 8
    sizes = {row["blocks"][1] - row["blocks"][0] + 1: row["bytes"] for row in masked}
    assert sizes[2] - sizes[1] == sizes[3] - sizes[2] == block
    assert picture(tmp_path, "figure2")
    assert not picture(tmp_path, "table7")


def test_rows_of_the_papers_depth_are_the_papers() -> None:
    tuned, *rows = rows_of(12)
    assert (tuned.method, tuned.changes) == ("finetuning", {})
    assert [(row.blocks, row.share, set(row.directions)) for row in rows] == [
        (row.blocks, row.initial_sparsity, set(row.directions)) for row in FACTS.table7.masking
    ]
    assert rows[1].changes == {"blocks": "0-11", "initial_sparsity": 0.15}


def test_rows_of_another_depth_are_the_same_fractions() -> None:
    rows = [row for row in rows_of(6) if row.share == 0.05]
    assert {row.blocks for row in rows if "top-down" in row.directions} == {
        (0, 5),
        (1, 5),
        (2, 5),
        (3, 5),
        (4, 5),
    }
    assert {row.blocks for row in rows if "bottom-up" in row.directions} == {
        (0, 5),
        (0, 4),
        (0, 3),
        (0, 2),
        (0, 1),
    }
    assert len(rows) == 9


def test_the_papers_numbers_stand_beside_the_same_row() -> None:
    found = [
        Measured(task, row, 1e-3, Scores((cell.mean / 100,)), 1)
        for task in FACTS.table7.finetuning
        for row in rows_of(12)
        if (cell := papers_cell(task, row, 12))
    ]
    assert len(found) == 3 * 19
    paper = by_choice(FACTS.table7)
    assert choices(found) == {task: pytest.approx(row) for task, row in paper.items()}
    half = Row((3, 5), 0.15, ("top-down",))
    (six,) = [row for row in FACTS.table7.masking if (row.blocks, row.initial_sparsity) == ((6, 11), 0.15)]
    cell = papers_cell("cola", half, 6)
    assert cell
    assert cell.mean == pytest.approx(100 * six.scores["cola"].mean)
    assert papers_cell("trec", half, 6) is None


def test_at_the_full_scale_each_row_has_its_own_rate_by_the_mean_over_seeds(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.common.runs.Grid.paper", lambda: Grid((1e-3, 9e-3), None, 2))
    monkeypatch.setattr("experiments.paper.figure2_table7_blocks.FULL_TASKS", ("trec",))
    result = table7(full_context(tmp_path, tiny_bert, "table7", seeds=(1, 2)))
    (path,) = (tmp_path / "runs").rglob("results.jsonl")
    assert len(path.read_text().splitlines()) == 11 * 2 * 2  # rows, rates, seeds
    for row in result.values["rows"]:
        assert len(row["by_seed"]) == 2
        assert row["lr"] in (1e-3, 9e-3)
    assert result.settings["Learning rate"] == "searched for each row and task"
