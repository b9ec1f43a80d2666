"""Fields of a row: texts, lists and labels, checked as they are read."""

import json
import math
from collections.abc import Mapping


class UnusableRowError(Exception):
    """A row that can't be used; the message says why."""


def read_text(values: Mapping[str, object], column: str) -> str:
    """Read a text that is not blank.

    Args:
        values: Value of each column of the row.
        column: The column.

    Raises:
        UnusableRowError: It is missing, blank, or not a text.
    """
    return _checked_text(_value(values, column), repr(column))


def read_list(values: Mapping[str, object], column: str) -> list[object]:
    """Read a list; in CSV and TSV, where every field is text, one written as JSON.

    Args:
        values: Value of each column of the row.
        column: The column.

    Raises:
        UnusableRowError: It is missing, empty, or not a list.
    """
    value = _value(values, column)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise UnusableRowError(f"{column!r} is a broken JSON list") from None
    if not isinstance(value, list):
        raise UnusableRowError(f"{column!r} must be a list, found {type(value).__name__}")
    if not value:
        raise UnusableRowError(f"{column!r} is empty")
    return value


def read_texts(values: Mapping[str, object], column: str) -> tuple[str, ...]:
    """Read a list of texts, none of them blank; see `read_list`."""
    return tuple(_checked_text(item, f"an element of {column!r}") for item in read_list(values, column))


def read_label(values: Mapping[str, object], column: str) -> str:
    """Read a label; see `label_of`."""
    return label_of(_value(values, column), repr(column))


def label_of(value: object, what: str) -> str:
    """Name a label: text as it is, whole numbers in digits, true and false as JSON spells them.

    Args:
        value: The value.
        what: What it is, for the message.

    Raises:
        UnusableRowError: It is not such a value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        raise UnusableRowError(f"{what} is {value}, and a label is text or a whole number")
    return _checked_text(value, what)


def whole_number(text: str) -> int | None:
    """Return the whole number that a text spells, None if it spells none."""
    try:
        return int(text)
    except ValueError:
        return None


def _value(values: Mapping[str, object], column: str) -> object:
    value = values.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise UnusableRowError(f"{column!r} is missing")
    return value


def _checked_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise UnusableRowError(f"{what} must be text, found {type(value).__name__}")
    if not value.strip():
        raise UnusableRowError(f"{what} is empty")
    return value
