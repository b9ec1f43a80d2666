import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.learning_data import write_lines
from training.data.rows import Row, RowSet, data_digest, read_dataset, read_file
from training.errors import DataFileError


def _row_set(*values: dict[str, object]) -> RowSet:
    return RowSet("x", "line", tuple(Row(number, row) for number, row in enumerate(values, start=1)))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json", "rows.jsonl.gz", "ROWS.JSONL.GZ"])
def test_json_lines_keep_the_line_numbers_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = '\ufeff{"text": "a"}\n\n{"text": "b\u2028c", "label": 1}'.encode()
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)

    rows = read_file(path)

    assert rows.rows == (Row(1, {"text": "a"}), Row(3, {"text": "b\u2028c", "label": 1}))
    assert rows.columns == ("text", "label")
    assert rows.unit == "line"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a', "broken JSON"),
        ("[1, 2]", "found an array"),
        ("7", "found a single value"),
        ("[" * 100_000, "broken JSON"),
    ],
)
def test_a_line_that_is_no_json_object_is_an_error_that_names_it(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "a"}, "", line, {"text": "b"}])
    with pytest.raises(DataFileError, match=rf"rows\.jsonl:3: .*{reason}"):
        read_file(path)


def test_bytes_that_are_no_utf8_are_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(DataFileError, match=r"rows\.jsonl:2: not UTF-8"):
        read_file(path)


def test_csv_fields_may_be_quoted_and_hold_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"one, two",1\n\n"a\nb ""c""",0\n', newline="")
    assert read_file(path).rows == (
        Row(2, {"text": "one, two", "label": "1"}),
        Row(5, {"text": 'a\nb "c"', "label": "0"}),
    )


def test_tsv_is_read_from_gzip(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv.gz"
    path.write_bytes(gzip.compress(b"text\tlabel\r\na, b\tyes\r\n"))
    assert read_file(path).rows == (Row(2, {"text": "a, b", "label": "yes"}),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,1\nb,2,3\n", r":3: 3 fields where the header names 2"),
        ('text,label\na,1\n"b,2\n', r":3: unexpected end of data"),
    ],
)
def test_malformed_csv_is_an_error_that_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataFileError, match=rf"rows\.csv{message}"):
        read_file(path)


def test_parquet_keeps_lists_and_counts_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"tokens": [["a", "b"], ["c"]], "tags": [["X", "Y"], None]}), path)
    rows = read_file(path)
    assert rows.rows[0] == Row(1, {"tokens": ["a", "b"], "tags": ["X", "Y"]})
    assert rows.rows[1].values["tags"] is None
    assert rows.unit == "row"


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 100)[:-9])
    (tmp_path / "plain.jsonl.gz").write_bytes(b'{"text": "a"}\n')
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    for name, message in {
        "broken.parquet": "not a Parquet file",
        "cut.jsonl.gz": "can't be read: Compressed file ended",
        "plain.jsonl.gz": "can't be read: Not a gzipped file",
        "absent.jsonl": "No such file",
        "rows.xlsx": r"unknown format.*\.jsonl.*\.parquet",
        "rows.parquet.gz": "unknown format",
    }.items():
        with pytest.raises(DataFileError, match=message):
            read_file(tmp_path / name)


def test_the_digest_follows_rows_their_lines_and_the_order_of_the_sets() -> None:
    one, other = _row_set({"text": "a", "label": 1}), _row_set({"text": "b", "label": 1})
    assert data_digest(one, other) == data_digest(_row_set({"label": 1, "text": "a"}), other)
    assert (
        len({data_digest(one, other), data_digest(other, one), data_digest(one), data_digest(one, one)}) == 4
    )


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


def test_a_split_that_is_not_there_is_one_clear_line(hub_folder: Path) -> None:
    with pytest.raises(DataFileError, match=r'split dev: Unknown split "dev".*train') as caught:
        read_dataset(str(hub_folder), "dev")
    assert "\n" not in str(caught.value)
