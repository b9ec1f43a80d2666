"""Fields of a row: texts, lists and labels, checked as they are read, in the forms that files have them."""

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence

_INTEGER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.0*)?")
_FRACTION = re.compile(r"[+-]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+e[+-]\d+)")
_TRUTH = {"true", "false"}
# A list as Python and numpy print it, which is how `datasets` and pandas write one to CSV.
_ELEMENT = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"\[\]]+""", re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")
_ARRAY = re.compile(r"array\((\[.*?\])(?:, dtype=\w+)?\)", re.DOTALL)
_LIST = 'a list such as ["a", "b"]'


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
    return checked_text(read_value(values, column), repr(column))


def read_list(values: Mapping[str, object], column: str) -> list[object]:
    """Read a list; in CSV and TSV, where every field is text, one written as JSON or as Python prints it.

    Args:
        values: Value of each column of the row.
        column: The column.

    Raises:
        UnusableRowError: It is missing, empty, or not a list.
    """
    value = read_value(values, column)
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parsed(value.strip(), column)
    if not isinstance(value, list):
        raise UnusableRowError(f"{column!r} must be {_LIST}, found {type(value).__name__}")
    if not value:
        raise UnusableRowError(f"{column!r} is empty")
    return value


def read_structure(values: Mapping[str, object], column: str) -> object:
    """Read a list, or an object of lists; in CSV and TSV either is written as text."""
    value = read_value(values, column)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = ast.literal_eval(_ARRAY.sub(r"\1", value.strip()))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise UnusableRowError(f"{column!r} is a broken object") from None
    return value if isinstance(value, dict) else read_list(values, column)


def checked_texts(items: Iterable[object], column: str) -> tuple[str, ...]:
    """Return the elements of a column's list, all of which must be texts that are not blank."""
    return tuple(checked_text(item, f"an element of {column!r}") for item in items)


def read_label(values: Mapping[str, object], column: str) -> str:
    """Read a label; see `label_of`."""
    return label_of(read_value(values, column), repr(column))


def label_of(value: object, what: str) -> str:
    """Name a label, the same whichever format it is from.

    Space around it is dropped; whole numbers are digits, whether 1, 1.0 or "1.0"; truth values are ``true``
    and ``false``, however they are spelled.

    Args:
        value: The value.
        what: What it is, for the message.

    Raises:
        UnusableRowError: It is not text, a number or a truth value.
    """
    if isinstance(value, list):
        raise UnusableRowError(
            f"{what} is a list; texts with several labels: --kind multi-label-classification"
        )
    if isinstance(value, int | float):  # bool is an int
        value = str(value)
    text = checked_text(value, what).strip()
    if _INTEGER.fullmatch(text):
        number = text.partition(".")[0]
        return "0" if number == "-0" else number
    return text.lower() if text.lower() in _TRUTH else text


def is_fraction(label: str) -> bool:
    """Tell whether a label is a number that is not whole."""
    return bool(_FRACTION.fullmatch(label))


def whole_number(text: str) -> int | None:
    """Return the whole number that a text spells, None if it spells none."""
    try:
        return int(text)
    except ValueError:
        return None


def numbered_columns(columns: Iterable[str], name: str) -> list[str]:
    """Find columns that are a name and a number or letter, such as ``ending0``, in their order."""
    numbered = re.compile(rf"{re.escape(name)}[_ -]?(\d+|[a-h])", re.IGNORECASE)
    found = [(match[1], column) for column in columns if (match := numbered.fullmatch(column))]
    return [column for _, column in sorted(found, key=lambda one: (len(one[0]), one[0].lower()))]


def read_value(values: Mapping[str, object], column: str) -> object:
    """Return what a column holds.

    Raises:
        UnusableRowError: Nothing.
    """
    value = values.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise UnusableRowError(f"{column!r} is missing")
    return value


def checked_text(value: object, what: str) -> str:
    """Return a value that must be text.

    Raises:
        UnusableRowError: It is of another type, blank, or holds half a character, which no encoding has.
    """
    if not isinstance(value, str):
        raise UnusableRowError(f"{what} must be text, found {type(value).__name__}")
    if not value.strip():
        raise UnusableRowError(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableRowError(f"{what} holds half a character (a lone surrogate)") from None
    return value


def _parsed(text: str, column: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    elements, end = [], 1
    while element := _ELEMENT.match(text, _after(text, end)):
        elements.append(element[0])
        end = element.end()
    if "..." in elements:
        raise UnusableRowError(f"{column!r} is a list that was cut off ('...') when it was written")
    if text[_after(text, end) :] != "]":
        raise UnusableRowError(f"{column!r} is a broken list; expected {_LIST}")
    return [_literal(element) for element in elements]


def _after(text: str, position: int) -> int:
    found = _BETWEEN.match(text, position)
    return found.end() if found else position


def _literal(element: str) -> object:
    """Return the value of an element; a word without quotation marks is a text."""
    if element in {"None", "nan"}:
        return None
    try:
        value: object = ast.literal_eval(element)
    except (ValueError, SyntaxError):
        return element
    return value


def joined(items: Sequence[str], most: int) -> str:
    """Write the first items on a line, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
