from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.files.parquet import read_parquet
from training.data.rows import Row
from training.errors import DataFileError


def test_lists_are_kept_and_rows_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"tokens": [["a", "b"], ["c"]], "tags": [["X", "Y"], None]}), path)
    rows = read_parquet(path)
    assert rows.rows[0] == Row(1, {"tokens": ["a", "b"], "tags": ["X", "Y"]})
    assert rows.rows[1].values["tags"] is None
    assert rows.unit == "row"


def test_names_of_folders_are_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "lang=en" / "rows.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"text": ["a"]}), path)
    assert read_parquet(path).columns == ("text",)


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    arrays = [pa.array(["a"]), pa.array(["x"]), pa.array([1])]
    pq.write_table(pa.Table.from_arrays(arrays, names=["text", "label", "label"]), path)
    with pytest.raises(DataFileError, match="two columns are called 'label'"):
        read_parquet(path)


def test_names_of_classes_take_the_place_of_numbers(tmp_path: Path) -> None:
    datasets: Any = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["O", "B-X"])
    features = datasets.Features({"tags": datasets.List(names), "label": names, "n": datasets.Value("int64")})
    columns = {"tags": [[0, 1], [1]], "label": [1, -1], "n": [1, 0]}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "t.parquet")
    rows = read_parquet(tmp_path / "t.parquet")
    assert [row.values for row in rows.rows] == [
        {"tags": ["O", "B-X"], "label": "B-X", "n": 1},
        {"tags": ["B-X"], "label": None, "n": 0},
    ]
    assert "classes of 'label' have names: O, B-X" in rows.notes
