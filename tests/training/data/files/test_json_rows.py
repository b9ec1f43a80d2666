import json
from pathlib import Path
from typing import Any

import pytest

from training.data.files.json_rows import read_json
from training.data.rows import Row
from training.errors import DataFileError

ROWS: list[dict[str, Any]] = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
COLUMNS: dict[str, list[Any]] = {"text": ["a", "b"], "label": [1, 0]}

# What the tools of the trade write: json.dump of rows, doccano, pandas' to_json by orient, Dataset.to_dict.
DOCUMENTS = {
    "array": json.dumps(ROWS),
    "indented array": json.dumps(ROWS, indent=2),
    "one object around": json.dumps({"version": "1", "data": ROWS}, indent=1),
    "table": json.dumps({"schema": {"fields": [{"name": "text"}]} | {}, "rows": ROWS}),
    "columns of lists": json.dumps(COLUMNS),
    "columns by index": json.dumps({name: {"0": own[0], "1": own[1]} for name, own in COLUMNS.items()}),
    "split": json.dumps({"columns": ["text", "label"], "index": [0, 1], "data": [["a", 1], ["b", 0]]}),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_read_in_any_of_its_shapes(name: str) -> None:
    rows = read_json(Path("t.json"), DOCUMENTS[name], document=True)
    assert rows.unit == "row"
    assert rows.rows == (Row(1, ROWS[0]), Row(2, ROWS[1]))


@pytest.mark.parametrize("document", [True, False])
def test_objects_over_several_lines_keep_the_line_where_they_begin(document: bool) -> None:
    text = "\n" + "\n".join(json.dumps(row, indent=2) for row in ROWS)
    rows = read_json(Path("t.json"), text, document=document)
    assert (rows.unit, [row.line for row in rows.rows]) == ("line", [2, 6])
    assert [row.values for row in rows.rows] == ROWS


def test_an_array_may_be_called_jsonl_and_lines_may_be_called_json() -> None:
    assert len(read_json(Path("t.jsonl"), json.dumps(ROWS), document=False).rows) == 2
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    assert read_json(Path("t.json"), lines, document=True).rows[1] == Row(2, ROWS[1])


def test_one_line_is_one_row() -> None:
    sentence = {"tokens": ["a", "b"], "tags": ["X", "Y"]}
    assert read_json(Path("t.jsonl"), json.dumps(sentence), document=False).rows == (Row(1, sentence),)
    assert read_json(Path("t.json"), json.dumps(ROWS[0]), document=True).rows == (Row(1, ROWS[0]),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\n{"text": "a', r"t\.json:2: broken JSON"),
        ('{"a": 1}\n[1, 2]\n', r"t\.json:2: expected .* found an array"),
        ("7", r"t\.json:1: expected .* found a single value"),
        ("[1, 2]", r"t\.json:1: expected .* found an array"),
        ("[" * 100_000, r"t\.json:1: broken JSON"),
        ('[\n{"text": "a"},\n{"text": }\n]', r"t\.json:3: broken JSON"),
        ('{"label": 1, "text": "a", "label": 2}\n', r"t\.json:1: 'label' is there twice"),
        ('[{"a": 1},\n{"label": 1, "label": 2}]', "'label' is there twice"),
    ],
)
def test_what_is_no_row_is_an_error_that_names_its_line(text: str, message: str) -> None:
    with pytest.raises(DataFileError, match=message):
        read_json(Path("t.json"), text, document=True)
