"""Names that a source gives: of columns, each of which must be there once, and of classes.

What a source knows of its classes (``ClassLabel`` of `datasets`) takes the place of their numbers, and -1,
which `datasets` writes for "no label", becomes None, whichever way the rows come.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from training.data.rows import Row, RowSet
from training.errors import DataFileError
from training.kinds.fields import joined

_SHOWN = 10


def refuse_repeated(path: Path, names: Iterable[str]) -> None:
    """Make sure that no two columns have one name.

    Raises:
        DataFileError: Two have; names it.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataFileError(f"{path}: two columns are called {twice[0]!r}; rename one of them")


def with_class_names(
    source: str, rows: Iterable[Mapping[str, object]], features: Mapping[str, Any]
) -> RowSet:
    """Give rows their numbers, and classes their names in place of numbers.

    Args:
        source: The name to show a user.
        rows: Values by column.
        features: What `datasets` says of each column; may be empty.
    """
    names = {column: own for column, feature in features.items() if (own := class_names(feature))}
    values = (_named_row(row, names) for row in rows) if names else rows
    notes = tuple(f"classes of {column!r} have names: {joined(own, _SHOWN)}" for column, own in names.items())
    return RowSet(source, "row", tuple(Row(n, row) for n, row in enumerate(values, start=1)), notes)


def class_names(feature: Any) -> tuple[str, ...] | None:
    """Return the class names of a column of `datasets`, or of the elements of a list column."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return tuple(names) if names else None


def _named_row(row: Mapping[str, object], names: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    return {column: _named(value, names.get(column)) for column, value in row.items()}


def _named(value: Any, names: tuple[str, ...] | None) -> object:
    if names is None:
        return cast(object, value)
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, str):  # a field of CSV
        value = value.strip()
        if value in names:
            return value
        value = int(value) if value.isdecimal() else None
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
