"""Rows of labelled data, read from a file or from a dataset of the Hugging Face hub.

Reads JSON lines, CSV, TSV (each also gzipped) and Parquet files, and one split of a dataset through
`datasets`. A row is whatever stands at one line: which of its columns are needed, and whether their values
can be used, is decided in `training.data.examples`. What is malformed as a file (broken JSON, a line of CSV
with a field too many, bytes that are not UTF-8) is an error that names the file and the line, because nothing
after it can be trusted. Files are read here and not by `datasets`, which does not keep the line numbers.
"""

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from training.errors import DataFileError

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


class Row(NamedTuple):
    """One row of a file or of a split.

    Attributes:
        line: 1-based line of the file where the row stands (for Parquet and hub datasets: the row's number).
        values: Column name to value, as read.
    """

    line: int
    values: Mapping[str, object]


@dataclass(frozen=True)
class RowSet:
    """Every row of one file or split, in order.

    Attributes:
        source: The name to show a user, such as ``train.jsonl`` or ``ag_news [train]``.
        unit: What `Row.line` counts, ``line`` or ``row``.
        rows: The rows.
    """

    source: str
    unit: str
    rows: tuple[Row, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that occurs in any row, in order of first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))


def read_file(path: str | Path) -> RowSet:
    """Read every row of a file.

    Args:
        path: A file whose name ends in one of `FORMATS`, text formats also with ``.gz`` behind.

    Raises:
        DataFileError: The file can't be opened, its format is unknown, or one line is malformed.
    """
    path = Path(path)
    suffix = file_format(path)
    try:
        if suffix == ".parquet":
            return RowSet(str(path), "row", _number(_parquet(path)))
        reader = _delimited if suffix in {".csv", ".tsv"} else _json_lines
        return RowSet(str(path), "line", tuple(reader(path)))
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataFileError(f"{path}: can't be read: {reason}") from error


def file_format(path: Path) -> str:
    """Return the format of a file by its name, one of `FORMATS`.

    Raises:
        DataFileError: The name ends in nothing that is known.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    packed_parquet = suffix == ".parquet" and path.suffix.lower() == ".gz"
    if suffix not in FORMATS or packed_parquet:
        known = ", ".join(FORMATS[:-1])
        raise DataFileError(
            f"{path}: unknown format; the name must end in {known} (each also with .gz) or .parquet"
        )
    return suffix


def read_dataset(name: str, split: str) -> RowSet:
    """Read one split of a dataset of the hub, or of a local folder in a form that `datasets` knows.

    Labels stored as numbers with names (``ClassLabel``) come back as their names; -1, the hub's mark for "no
    label", comes back as None.

    Args:
        name: ``ID`` or ``ID:CONFIG``.
        split: Such as ``train``, or ``train[:1000]``.

    Raises:
        DataFileError: `datasets` could not load it; the message says why.
    """
    import datasets  # noqa: PLC0415 (slow to import, and most runs read a file)

    identifier, _, config = name.partition(":")
    try:
        data = datasets.load_dataset(identifier, config or None, split=split)
    except Exception as error:  # the library raises two dozen unrelated classes here
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataFileError(f"dataset {name}, split {split}: {reason}") from error
    names = {column: _class_names(feature) for column, feature in data.features.items()}
    rows = ({column: _named(value, names[column]) for column, value in row.items()} for row in data)
    return RowSet(f"{name} [{split}]", "row", _number(rows))


def data_digest(*row_sets: RowSet) -> str:
    """Return ``sha256:<hex>`` over every row of the sets as read: line numbers, columns and values."""
    digest = hashlib.sha256()
    for row_set in row_sets:
        digest.update(b"\x1e")
        for line, values in row_set.rows:
            text = json.dumps([line, values], sort_keys=True, ensure_ascii=False, default=str)
            digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return f"sha256:{digest.hexdigest()}"


def _number(rows: Iterator[dict[str, object]]) -> tuple[Row, ...]:
    return tuple(Row(number, values) for number, values in enumerate(rows, start=1))


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, gunzipped where the name ends in .gz, without the byte order mark."""
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataFileError(f"{path}:{number}: not UTF-8 text: {error.reason}") from error


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise DataFileError(f"{path}:{number}: broken JSON: {reason}") from error
        if not isinstance(values, dict):
            found = "an array" if isinstance(values, list) else "a single value"
            raise DataFileError(f"{path}:{number}: expected one JSON object a line, found {found}")
        yield Row(number, values)


def _delimited(path: Path) -> Iterator[Row]:
    """Read CSV or TSV: the first line names the columns; a field may be quoted and then hold line breaks."""
    reader = csv.reader(_lines(path), delimiter="\t" if file_format(path) == ".tsv" else ",", strict=True)
    header: list[str] = []
    try:
        for fields in reader:
            if not header:
                header = fields
            elif fields and len(fields) != len(header):
                message = f"{len(fields)} fields where the header names {len(header)}"
                raise DataFileError(f"{path}:{reader.line_num}: {message}")
            elif fields:
                yield Row(reader.line_num, dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise DataFileError(f"{path}:{reader.line_num}: {error}") from error


def _parquet(path: Path) -> Iterator[dict[str, object]]:
    import pyarrow as pa  # noqa: PLC0415 (slow to import, and most runs read JSON lines)
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        rows = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid as error:
        raise DataFileError(f"{path}: not a Parquet file: {error}") from error
    return iter(cast(list[dict[str, object]], rows))


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """Return the class names of a column of a hub dataset, or of the elements of a list column."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return tuple(names) if names else None


def _named(value: Any, names: tuple[str, ...] | None) -> object:
    if names is None:
        return cast(object, value)
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
