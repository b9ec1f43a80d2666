"""The same data are the same task, whichever way they come."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.learning_data import write_lines
from training.data.task_data import TaskData, load_data
from training.errors import DataFileError, LabelError
from training.options import LearnOptions


def _load(train: Path | str | list[str], dev: Path | None = None, **options: Any) -> TaskData:
    files = {} if "dataset" in options else {"train": train, "dev": dev}
    settings = {"task": "t", "kind": "sequence-classification", "base": "b"} | files | options
    return load_data(LearnOptions(**settings))


def _csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows, indent=1))
    return path


def _parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
    ".jsonl": write_lines,
    ".csv": _csv,
    ".json": _json,
    ".parquet": _parquet,
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("labels", "meant"),
    [
        ([1, 0, 1], ["1", "0", "1"]),
        ([1.0, 0.0, 1.0], ["1", "0", "1"]),
        (["1", " 0", "1.0"], ["1", "0", "1"]),
        ([True, False, True], ["true", "false", "true"]),
        (["True", "FALSE", "true "], ["true", "false", "true"]),
        (["pos", "neg ", "\tpos"], ["pos", "neg", "pos"]),
        (["007", "7", "007"], ["007", "7", "007"]),
    ],
)
def test_labels_mean_the_same_in_every_format(
    tmp_path: Path, suffix: str, labels: list[Any], meant: list[str]
) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]
    path = WRITERS[suffix](tmp_path / f"rows{suffix}", rows)
    assert [example.target for example in _load(path, path).train.examples] == meant


@pytest.mark.parametrize("suffix", WRITERS)
def test_scores_are_refused_in_every_format(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate([4.8, 0.25, 3.0])]
    path = WRITERS[suffix](tmp_path / f"rows{suffix}", rows)
    with pytest.raises(LabelError, match=r"scores \(4\.8, 0\.25\)"):
        _load(path, path)


def test_a_file_and_a_dataset_of_the_same_data_are_the_same_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets: Any = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    names = datasets.ClassLabel(names=["negative", "positive"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    (tmp_path / "d").mkdir()
    for split in ("train", "validation"):
        data.to_parquet(tmp_path / "d" / f"{split}.parquet")
    by_file = _load(tmp_path / "d" / "train.parquet", tmp_path / "d" / "validation.parquet")
    by_name = _load("", dataset=str(tmp_path / "d"))
    assert by_file.labels == by_name.labels == ("negative", "positive")
    assert by_file.train.examples == by_name.train.examples
    assert by_file.train.unusable == by_name.train.unusable
    assert by_file.digest == by_name.digest


def test_what_was_found_out_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [
        "question;sentence;label;note",
        "is it?;it is;yes;a long note",
        "is it?;no;no;another of them",
    ]
    path.write_text("\n".join(rows))
    data = _load(path, path)
    assert data.notes == (
        f"{path}: read as semicolons between fields (--delimiter semicolon)",
        "columns: --text-column question --pair-column sentence --label-column label",
        "2 labels: no 1, yes 1",
    )
    assert data.warnings[0] == f"{path}: not used, though there is text in it: 'note'"
    assert "2 of 2 rows" in data.warnings[1]


def test_a_share_of_train_takes_the_place_of_dev(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(40)]
    shards = [write_lines(tmp_path / f"part-{n}.jsonl", rows[n::2]) for n in range(2)]
    data = _load(str(tmp_path / "part-*.jsonl"), validation_share=0.25)
    assert (len(data.train.examples), len(data.dev.examples)) == (30, 10)
    assert data.digest == _load([str(path) for path in shards], validation_share=0.5).digest
    assert data.warnings == ()
    assert data.notes[0] == (
        f"{shards[0]} and 1 more: 10 of 40 rows are kept to choose the epoch by: 0.25 of each label, the "
        "same for every --seed (--validation-share 0.25 --split-seed 0)"
    )


def test_without_dev_a_tenth_is_kept_and_told(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [{"text": f"text {n}", "label": n % 2} for n in range(40)])
    data = _load(str(path))
    assert (len(data.train.examples), len(data.dev.examples)) == (36, 4)
    assert data.notes[0].startswith(
        f"{path}: 4 of 40 rows are kept to choose the epoch by, as there is no --dev: 0.1 of each label"
    )
    other = _load(str(path), split_seed=1)
    assert other.dev.examples != data.dev.examples
    assert other.held_share == data.held_share == 0.1


def test_a_dataset_without_a_dev_split_gives_a_share(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(40)]
    write_lines(tmp_path / "plain" / "train.jsonl", rows)
    options: dict[str, Any] = {"task": "t", "kind": "sequence-classification", "base": "b"}
    data = load_data(LearnOptions(**options, dataset=str(tmp_path / "plain")))
    assert (len(data.train.examples), len(data.dev.examples)) == (36, 4)
    assert "as there is no --dev-split" in data.notes[0]
    write_lines(tmp_path / "plain" / "validation.jsonl", rows[:6])
    data = load_data(LearnOptions(**options, dataset=str(tmp_path / "plain")))
    assert (len(data.train.examples), len(data.dev.examples)) == (40, 6)
    with pytest.raises(DataFileError, match="split test"):
        load_data(LearnOptions(**options, dataset=str(tmp_path / "plain"), dev_split="test"))
