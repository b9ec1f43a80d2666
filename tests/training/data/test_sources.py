import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.learning_data import write_lines
from training.data.rows import Row
from training.data.sources import read_dataset, read_file, read_files
from training.errors import DataFileError


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json", "rows.jsonl.gz", "ROWS.JSONL.GZ"])
def test_json_lines_keep_the_line_numbers_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = '\ufeff{"text": "a"}\n\n{"text": "b\u2028c", "label": 1}'.encode()
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)

    rows = read_file(path)

    assert rows.rows == (Row(1, {"text": "a"}), Row(3, {"text": "b\u2028c", "label": 1}))
    assert rows.columns == ("text", "label")
    assert rows.unit == "line"


def test_bytes_that_are_no_utf8_are_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(DataFileError, match=r"rows\.jsonl:2: not UTF-8"):
        read_file(path)


def test_tsv_is_read_from_gzip(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv.gz"
    path.write_bytes(gzip.compress(b"text\tlabel\r\na, b\tyes\r\n"))
    assert read_file(path).rows == (Row(2, {"text": "a, b", "label": "yes"}),)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 100)[:-9])
    damaged = bytearray(gzip.compress(b'{"text": "a"}\n' * 100))
    damaged[14:18] = b"\xff" * 4
    (tmp_path / "damaged.jsonl.gz").write_bytes(damaged)
    latin = pa.array([b"caf\xe9"], pa.binary()).cast(pa.string(), safe=False).view(pa.string())
    pq.write_table(pa.table({"text": latin}), tmp_path / "latin.parquet")
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    for name, message in {
        "broken.parquet": "can't be read: .*not a parquet file",
        "latin.parquet": "can't be read: 'utf-8' codec can't decode",
        "damaged.jsonl.gz": "can't be read: Error -3",
        "cut.jsonl.gz": "can't be read: Compressed file ended",
        "absent.jsonl": "No such file",
        "rows.xlsx": r"unknown format.*\.jsonl.*\.parquet",
        "rows.parquet.gz": "unknown format",
    }.items():
        with pytest.raises(DataFileError, match=message) as caught:
            read_file(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_files_are_read_as_one_and_what_is_malformed_names_its_own(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b"}])
    second = write_lines(tmp_path / "b.jsonl.gz", [{"text": "c"}])
    rows = read_files([first, second])
    assert rows.rows == tuple(Row(n, {"text": text}) for n, text in ((1, "a"), (2, "b"), (3, "c")))
    assert (rows.unit, rows.source) == ("row", f"{first} and 1 more")
    assert rows.notes == (f"rows are numbered over 2 files: {first} to row 2, {second} to row 3",)
    assert read_files([first]) == read_file(first)
    broken = write_lines(tmp_path / "c.jsonl", ["{oops"])
    with pytest.raises(DataFileError, match=r"c\.jsonl:1: broken JSON"):
        read_files([first, broken])


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset with named labels in a local folder, which `datasets` loads like one of the hub."""
    datasets: Any = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    names = datasets.ClassLabel(names=["O", "B-X"])
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(names), "label": names}
    )
    columns = {"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [1]], "label": [1, -1]}
    folder = tmp_path / "named"
    folder.mkdir()
    datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / "train.parquet")
    return folder


def test_a_dataset_comes_back_with_the_names_of_its_labels(hub_folder: Path) -> None:
    rows = read_dataset(str(hub_folder), "train")
    assert rows.rows == (
        Row(1, {"tokens": ["a", "b"], "tags": ["O", "B-X"], "label": "B-X"}),
        Row(2, {"tokens": ["c"], "tags": ["B-X"], "label": None}),
    )


def test_a_local_folder_is_read_as_its_files_are(tmp_path: Path, hub_folder: Path) -> None:
    (tmp_path / "plain").mkdir()
    for split in ("train", "validation"):
        path = tmp_path / "plain" / f"{split}.csv"
        path.write_text('text,label\n"é",True\nNA,1.0\n', encoding="cp1252")
        rows = read_dataset(str(path.parent), split, encoding="cp1252")
        assert rows.rows == read_file(path, encoding="cp1252").rows
        assert rows.source.endswith(f"plain [{split}]")


def test_a_dataset_that_was_saved_to_disk_is_read(tmp_path: Path, hub_folder: Path) -> None:
    datasets: Any = pytest.importorskip("datasets")
    data = datasets.Dataset.from_parquet(str(hub_folder / "train.parquet"), cache_dir=str(tmp_path))
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "saved")
    assert read_dataset(str(tmp_path / "saved"), "train").rows == read_dataset(str(hub_folder), "train").rows


def test_a_split_that_is_not_there_is_one_clear_line(hub_folder: Path) -> None:
    with pytest.raises(DataFileError, match=r'split dev: Unknown split "dev".*train') as caught:
        read_dataset(str(hub_folder), "dev")
    assert "\n" not in str(caught.value)
