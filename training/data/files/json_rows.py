"""JSON rows: one object a line, or one document, in the shapes that pandas, `datasets` and others write.

A document is an array of objects, an object with one list of objects (``{"data": [...]}``), objects over
several lines each, or columns: ``{"text": [...], "label": [...]}``, pandas' ``to_json()`` and its
``orient="split"``.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.data.rows import Row, RowSet
from training.errors import DataFileError

_SPACE = re.compile(r"\s*")
_WANTED = 'one JSON object a line, an array of objects, or {"data": [...]}'


class _RepeatedKeyError(ValueError):
    """An object that has a key twice."""


def read_json(path: Path, text: str, *, document: bool) -> RowSet:
    """Read rows of JSON.

    Args:
        path: The file, for messages.
        text: What is in it.
        document: Whether a single object may stand for all rows, as in a file called ``.json``.

    Raises:
        DataFileError: It is broken, or is JSON of another shape; names the line where it can.
    """
    first = next((line for line in _lines(text) if line.strip()), "")
    if _is_object(first) and not (document and first.strip() == text.strip()):
        return RowSet(str(path), "line", tuple(_json_lines(path, text)))
    values = list(_values(path, text))
    if len(values) == 1:
        rows = _rows_of(values[0][1]) if document or isinstance(values[0][1], list) else None
        if rows is not None:
            return RowSet(str(path), "row", tuple(Row(n, row) for n, row in enumerate(rows, start=1)))
    return RowSet(str(path), "line", tuple(_row(path, line, value) for line, value in values))


def _lines(text: str) -> Iterator[str]:
    """Split at line feeds alone, as a text may hold other separators of lines."""
    return iter(text.split("\n"))


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(_lines(text), start=1):
        if line.strip():
            try:
                value = _loads(line)
            except (ValueError, RecursionError) as error:
                raise _broken(path, number, error) from error
            yield _row(path, number, value)


def _values(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield the values that follow each other in a text, with their lines."""
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    line, end, text = 1, 0, text.rstrip()
    while (start := _after_space(text, end)) < len(text):
        line += text.count("\n", end, start)
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            place = error.pos if isinstance(error, json.JSONDecodeError) else start
            raise _broken(path, line + text.count("\n", start, place), error) from error
        yield line, value
        line += text.count("\n", start, end)


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _row(path: Path, line: int, value: Any) -> Row:
    if not isinstance(value, dict):
        found = "an array" if isinstance(value, list) else "a single value"
        raise DataFileError(f"{path}:{line}: expected {_WANTED}, found {found}")
    return Row(line, value)


def _rows_of(value: Any) -> list[Mapping[str, object]] | None:
    """Return the rows of a document; None where it has none of the known shapes."""
    if isinstance(value, list):
        return value if all(isinstance(row, dict) for row in value) else None
    if not isinstance(value, dict):
        return None
    lists = [own for own in value.values() if isinstance(own, list) and own and isinstance(own[0], dict)]
    if len(lists) == 1:
        return _rows_of(lists[0])
    if {"columns", "data"} <= value.keys():
        return [dict(zip(value["columns"], row, strict=True)) for row in value["data"]]
    columns = {
        name: list(own.values()) if isinstance(own, dict) else own
        for name, own in value.items()
        if isinstance(own, dict | list)
    }
    if columns.keys() != value.keys() or len({len(own) for own in columns.values()}) != 1:
        return None
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, in which each key must be there once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RepeatedKeyError(f"{twice!r} is there twice")
    return found


def _broken(path: Path, line: int, error: Exception) -> DataFileError:
    if isinstance(error, _RepeatedKeyError):
        return DataFileError(f"{path}:{line}: {error}")
    reason = error.msg if isinstance(error, json.JSONDecodeError) else error
    return DataFileError(f"{path}:{line}: broken JSON: {reason}; expected {_WANTED}")
