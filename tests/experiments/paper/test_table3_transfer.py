from pathlib import Path

import pytest

from experiments.__main__ import main
from tests.support.experiments import command, picture, run, write_tasks
from tests.support.learning_data import write_lines


def test_table3(tmp_path: Path, tiny_bert: str) -> None:
    report = run(tmp_path, tiny_bert, "table3", "blocks=0-", "--seeds", "0", "1")
    values = report["values"]
    assert picture(tmp_path, "table3")
    assert values["majority"] == {"sst2": 50, "sem": 50}
    cells = {(c["method"], c["learned_from"], c["measured_on"]): c for c in values["accuracy"]}
    assert len(cells) == 8
    for (method, source, target), cell in cells.items():
        assert len(cell["by_seed"]) == 2
        assert values["gains"][method][source][target] == pytest.approx(cell["mean"] - 50)
    assert [claim["rule"] for claim in report["claims"]] == ["T3a", "T3b", "T3c", "T3d"]
    text = (tmp_path / "out" / "table3-quick.md").read_text()
    assert "| masking | SST2 | SEM |" in text
    assert "| -13.4 | - |" in text  # the paper's gain, not compared


def test_film_reviews_are_measured_and_not_learned_from(tmp_path: Path, tiny_bert: str) -> None:
    data = write_tasks(tmp_path / "data")
    rows = [{"text": "the movie was good", "label": label} for label in ("positive",) * 3 + ("negative",)]
    (data / "imdb").mkdir()
    write_lines(data / "imdb" / "dev.jsonl.gz", rows)
    report = run(tmp_path, tiny_bert, "table3", "--seeds", "0", "--rows", "all/3")
    assert report["values"]["majority"]["imdb"] in (pytest.approx(200 / 3), 100)  # 3 of the 4 rows
    reviews = [cell for cell in report["values"]["accuracy"] if cell["measured_on"] == "imdb"]
    assert {(cell["method"], cell["learned_from"]) for cell in reviews} == {
        ("masking", "sst2"),
        ("finetuning", "sst2"),
    }
    (claim,) = (claim for claim in report["claims"] if claim["rule"] == "T3e")
    assert claim["values"] == {cell["method"]: cell["mean"] for cell in reviews}
    assert "84.79" in (tmp_path / "out" / "table3-quick.md").read_text()


def test_tasks_that_do_not_fit(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_tasks(tmp_path / "data")
    for split in ("train", "dev"):
        rows = [{"text": "the movie", "label": label} for label in ("film", "plot")]
        write_lines(data / "trec" / f"{split}.jsonl.gz", rows)
    assert main(command(tmp_path, tiny_bert, "table3", "--tasks", "sst2")) == 2
    assert "give --tasks two names" in capsys.readouterr().err
    assert main(command(tmp_path, tiny_bert, "table3", "--tasks", "sst2", "trec")) != 0
    assert "both must have the same labels" in capsys.readouterr().err
