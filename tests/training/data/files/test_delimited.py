import csv
import io
from pathlib import Path

import pytest

from training.data.files.delimited import read_delimited
from training.data.rows import Row, RowSet
from training.errors import DataFileError


def _read(text: str, *, tabs: bool = False, delimiter: str | None = None) -> RowSet:
    return read_delimited(Path("t.csv"), text, tabs=tabs, delimiter=delimiter)


def _values(rows: RowSet) -> list[tuple[object, ...]]:
    return [tuple(row.values.values()) for row in rows.rows]


def test_csv_fields_may_be_quoted_and_hold_line_breaks() -> None:
    rows = _read('text,label\n"one, two",1\n\n"a\nb ""c""",0\n')
    assert rows.rows == (
        Row(2, {"text": "one, two", "label": "1"}),
        Row(5, {"text": 'a\nb "c"', "label": "0"}),
    )
    assert rows.notes == rows.warnings == ()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("tabs", [True, False])
def test_the_delimiter_is_found_and_told(delimiter: str, tabs: bool) -> None:
    others = "".join({",", ";", "|"} - {delimiter})
    rows = _read(f"text{delimiter}label\na {others} b{delimiter}x\nc{delimiter}y\n", tabs=tabs)
    assert _values(rows) == [(f"a {others} b", "x"), ("c", "y")]
    assert bool(rows.notes) == (delimiter != ("\t" if tabs else ","))


def test_the_delimiter_may_be_named_by_the_file_or_the_user() -> None:
    assert _values(_read("sep=;\ntext;label\na,b;x\n")) == [("a,b", "x")]
    assert _read("sep=;\ntext;label\na,b;x\n").rows[0].line == 3
    assert _values(_read("text:label\na:x\n", delimiter=":")) == [("a", "x")]


def test_space_around_names_and_behind_delimiters_is_dropped() -> None:
    rows = _read('text , label\n"a, b", "x"\n')
    assert rows.rows == (Row(2, {"text": "a, b", "label": "x"}),)


def test_empty_columns_and_rows_of_a_spreadsheet_are_passed_over() -> None:
    rows = _read(",text,label,,\n0,a,x,,\n,,,,\n1,b,y,,\n")
    assert rows.columns == ("text", "label")
    assert _values(rows) == [("a", "x"), ("b", "y")]


def test_a_field_may_be_longer_than_the_library_takes_by_default() -> None:
    rows = _read(f"text,label\n{'long ' * 50_000},x\nb,y\n")
    assert [len(str(row.values["text"])) for row in rows.rows] == [250_000, 1]


@pytest.mark.parametrize(
    "fields",
    [
        ('"open', "x"),
        ('closed"', "x"),
        ('"both"', "x"),
        ('5" disk', "x"),
        ('"one" and "two"', 'x"'),
        ("'", '"'),
    ],
)
def test_in_tsv_a_quotation_mark_is_a_character(fields: tuple[str, str]) -> None:
    text = "text\tlabel\n" + "\t".join(fields) + '\n"a\tx\nb"\ty\n'
    assert _values(_read(text, tabs=True)) == [fields, ('"a', "x"), ('b"', "y")]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("text", ["a\tb", "a\nb", 'he said "no"', '"'])
def test_tsv_of_a_program_that_quotes_is_read_as_it_was_written(text: str, quoting: int) -> None:
    written = io.StringIO()
    records = [("text", "label"), (text, "x"), ("plain", "y")]
    csv.writer(written, delimiter="\t", quoting=quoting).writerows(records)  # type: ignore[arg-type]
    rows = _read(written.getvalue(), tabs=True)
    assert _values(rows) == [(text, "x"), ("plain", "y")]


def test_a_quoted_field_that_swallows_rows_is_told() -> None:
    rows = _read('text,label\n"a,x\nb,y\nc,x\nd",y\ne,x\n')
    assert len(rows.rows) == 2
    assert rows.warnings == (
        "a quoted field that ends in line 5 holds whole rows; is a quotation mark missing?",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,1\nb,2,3\n", r":3: 3 fields where the header names 2 .*comma must be in quotation"),
        ("text,label\na,1\nb\n", r":3: 1 fields where the header names 2"),
        ('text,label\na,1\n"b,2\n', r":3: unexpected end of data"),
        ('text,label\na,1\n"b" c,2\n', r":3: .*doubled"),
        ("text,label,label\na,1,2\n", "two columns are called 'label'"),
        ("text,label, label\na,1,2\n", "two columns are called 'label'"),
    ],
)
def test_malformed_csv_is_an_error_that_names_the_place(text: str, message: str) -> None:
    with pytest.raises(DataFileError, match=rf"t\.csv{message}" if message[0] == ":" else message):
        _read(text)
