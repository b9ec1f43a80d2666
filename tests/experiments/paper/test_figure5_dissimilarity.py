from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.common.dissimilarity import KINDS, by_block
from experiments.paper.figure5_dissimilarity import Pair, masks_of, numbers_of, shown_blocks
from tests.support.experiments import command, full_context, picture, run, write_tasks


def test_figure5_compares_tasks_of_any_kind(tmp_path: Path, tiny_bert: str) -> None:
    tasks = ("--tasks", "sst2", "trec", "ner", "codah")
    report = run(tmp_path, tiny_bert, "figure5", "blocks=0-", "masking_lr=0.005", *tasks)
    pairs = report["values"]["pairs"]
    assert len(pairs) == 6
    for pair in pairs:
        assert list(pair["by_block"]) == ["0", "1", "2"]
        assert list(pair["by_block"]["0"]) == list(KINDS)
        assert all(0 < s <= 1 for row in pair["by_block"].values() for s in row.values())
    assert report["values"]["blocks_shown"] == [2, 2]
    assert [claim["rule"] for claim in report["claims"]] == ["F5a", "F5b"]
    assert picture(tmp_path, "figure5")


def test_two_runs_of_one_task_and_seed_are_equal(tmp_path: Path, tiny_bert: str) -> None:
    contexts = (full_context(tmp_path / name, tiny_bert, "figure5") for name in ("one", "other"))
    first, again = (masks_of(one.run("trec", "masking", lr=5e-3, blocks="0-")) for one in contexts)
    grid = by_block(first, again, "bert")
    assert {s for row in grid.values() for s in row.values()} == {0.0}


def test_what_the_claims_are_about() -> None:
    pairs: dict[Pair, dict[int, dict[str, float]]] = {
        ("a", "b"): {2: {"key": 0.1, "output": 0.3}, 5: {"key": 0.5, "output": 0.7}},
        ("a", "c"): {2: {"key": 0.1, "output": 0.3}, 5: {"key": 0.5, "output": 0.9}},
    }
    assert shown_blocks(pairs) == (2, 5)
    found = numbers_of(pairs)
    assert found.last == {"a, b": 0.7, "a, c": 0.9}
    assert set(found.lower.values()) == {0.3}
    assert found.by_block == {2: pytest.approx(0.2), 5: pytest.approx(0.65)}
    higher = {pair: {block + 1: row for block, row in grid.items()} for pair, grid in pairs.items()}
    assert shown_blocks(higher) == (3, 6)


def test_one_task_is_not_enough(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_tasks(tmp_path / "data")
    assert main(command(tmp_path, tiny_bert, "figure5", "--tasks", "sst2")) == 2
    assert "give --tasks two names or more" in capsys.readouterr().err
