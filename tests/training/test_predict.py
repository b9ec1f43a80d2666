import csv
import json
from pathlib import Path
from typing import Any

import pytest

import maskserve
from tests.support.learning_data import ROWS, tiny_options, write_lines
from training.predict import main
from training.runs.learn import learn

ANSWERS = ("label", "labels", "tags", "score")


@pytest.fixture(scope="module", params=list(ROWS))
def learned(request: pytest.FixtureRequest, tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kind, folder and command line of a task of each kind."""
    folder, kind = tmp_path_factory.mktemp("learned"), request.param
    learn(tiny_options(folder, tiny_bert, kind, epochs=1, force=True))
    line = ["--task", "demo", "--store", str(folder / "store"), "--base", tiny_bert, "--precision", "fp32"]
    return kind, folder, line


def _inputs(kind: Any, count: int = 5) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ANSWERS} for row in ROWS[kind](count, seed=3)]


def test_rows_without_answers_get_those_of_the_pipeline(
    learned: Any, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, folder, line = learned
    rows = _inputs(kind)
    assert main([*line, str(write_lines(folder / "new.jsonl", rows)), "--batch-size", "2"]) == 0
    found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    tasks = maskserve.load(tiny_bert, store=folder / "store", precision="fp32")
    for row, one in zip(rows, found, strict=True):
        assert {name: one[name] for name in row} == row
        values = list(row.values())
        if kind == "embedding":
            source, other = values
            assert one["predicted"] == pytest.approx(tasks.similarity("demo", source, [other])[0], abs=1e-5)
            continue
        answer = tasks("demo", values[0] if len(values) == 1 else tuple(values))
        _compare(kind, one, answer)


def _compare(kind: str, one: dict[str, Any], answer: list[dict[str, Any]]) -> None:
    if kind == "token-classification":
        assert one["predicted"] == [word["label"] for word in answer]
        assert one["predicted_scores"] == pytest.approx([word["score"] for word in answer], abs=1e-5)
    elif kind == "multi-label-classification":
        assert set(one["predicted"]) == {entry["label"] for entry in answer if entry["predicted"]}
    elif kind in ("regression", "reranking"):
        assert one["predicted"] == pytest.approx(answer[0]["score"], abs=1e-5)
    else:
        assert str(one["predicted"]) == answer[0]["label"]
        assert one["predicted_score"] == pytest.approx(answer[0]["score"], abs=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_has_the_columns_and_the_answers(learned: Any, tmp_path: Path, suffix: str) -> None:
    kind, folder, line = learned
    rows = [*_inputs(kind, 2), dict.fromkeys(_inputs(kind, 1)[0])]
    output = tmp_path / f"out{suffix}"
    file = str(write_lines(folder / "some.jsonl", rows))
    assert main([*line, file, "--output", str(output)]) == 0
    with output.open(newline="") as stream:
        found = list(csv.DictReader(stream, delimiter="," if suffix == ".csv" else "\t"))
    assert len(found) == 3
    assert all(row["predicted"] and not row["error"] for row in found[:2])
    assert not found[2]["predicted"]
    assert "is missing" in found[2]["error"]


def test_rows_that_cannot_be_used_stay_in_place_and_say_why(
    tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn(tiny_options(tmp_path, tiny_bert, epochs=1, force=True))
    file = str(write_lines(tmp_path / "new.jsonl", [{"text": "good"}, {"text": " "}, {"text": "bad"}]))
    line = ["--task", "demo", "--store", str(tmp_path / "store"), "--base", tiny_bert]
    assert main([*line, file]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(text) for text in out.splitlines()]
    assert [one["predicted"] is None for one in found] == [False, True, False]
    assert found[1]["error"] == "'text' is empty"
    assert "demo version 1: 3 rows, 1 of them can't be predicted" in err
    assert main([*line, file, "--output", str(tmp_path / "out.xlsx")]) == 2
    assert "must end in .jsonl" in capsys.readouterr().err
    assert main([*line, file, "--text-column", "words", "--output", file]) == 2
    assert "no column 'words'" in capsys.readouterr().err
    assert len(Path(file).read_text().splitlines()) == 3
    assert main([*line, file, "--output", file]) == 0
    assert [json.loads(text) for text in Path(file).read_text().splitlines()] == found
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".jsonl"}


def test_half_a_character_is_written_as_its_escape(tiny_bert: str, tmp_path: Path) -> None:
    learn(tiny_options(tmp_path, tiny_bert, epochs=1, force=True))
    file = tmp_path / "new.jsonl"
    file.write_text('{"text": "good \\ud83d"}\n{"text": "good"}\n')
    line = ["--task", "demo", "--store", str(tmp_path / "store"), "--base", tiny_bert]
    for name in ("out.jsonl", "out.csv"):
        assert main([*line, str(file), "--output", str(tmp_path / name)]) == 0
        assert "good \\ud83d" in (tmp_path / name).read_text()
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first["predicted"] is None
    assert second["predicted"] is not None
