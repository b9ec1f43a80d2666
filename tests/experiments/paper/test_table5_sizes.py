import json
import shutil
from pathlib import Path

import pytest

from experiments.__main__ import main
from tests.support.experiments import command, write_tasks
from tests.support.learning_data import write_lines


def _count(folder: Path, base: str, *more: str) -> dict[str, dict[str, int]]:
    assert main([*command(folder, base, "table5"), *more]) == 0
    report = json.loads((folder / "out" / "table5.json").read_text())
    assert report["scale"] == "exact"
    counts: dict[str, dict[str, int]] = report["values"]["counts"]
    return counts


def test_the_sets_at_hand_are_counted_whole(tmp_path: Path, tiny_bert: str) -> None:
    data = write_tasks(tmp_path / "data", dev=450)
    shutil.copy(data / "trec" / "train.jsonl.gz", data / "trec" / "test.jsonl.gz")
    counts = _count(tmp_path, tiny_bert)
    assert list(counts) == ["sst2", "sem", "trec", "ner"]  # the paper's order; no codah, which it lacks
    assert counts["trec"] == {"dev": 450, "test": 24}
    assert "| TREC | test | 24 | 500 | - | no |" in (tmp_path / "out" / "table5.md").read_text()


def test_words_beyond_the_cut_are_not_counted(tmp_path: Path, tiny_bert: str) -> None:
    data = write_tasks(tmp_path / "data")
    rows = [{"tokens": ["movie"] * n, "tags": ["O", "B-PER", *["O"] * (n - 2)]} for n in (10, 30, 31, 90)]
    write_lines(data / "ner" / "dev.jsonl.gz", rows)
    counts = _count(tmp_path, tiny_bert, "--tasks", "ner")
    assert counts == {"ner": {"dev": 10 + 3 * 30}}
    assert "the first 30 of a sentence" in (tmp_path / "out" / "table5.md").read_text()


def test_a_set_that_is_asked_for_must_be_there(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "data")
    assert main(command(tmp_path, tiny_bert, "table5", "--tasks", "swag")) == 2
    assert "SWAG: no file" in capsys.readouterr().err
    assert main(command(tmp_path, tiny_bert, "table5", "--data", str(tmp_path))) == 1
    assert "give --data FOLDER" in capsys.readouterr().err
