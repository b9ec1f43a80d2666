"""Rows of labelled data: whatever stands at each line of a file or in each row of a split.

Which columns are needed, and whether their values can be used, is decided in `training.data.examples`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Row(NamedTuple):
    """One row of a file or of a split.

    Attributes:
        line: 1-based line of the file where the row stands (for what has no lines: the row's number).
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
        notes: What was found out in reading, a sentence each.
        warnings: What looks wrong, a sentence each.
    """

    source: str
    unit: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that occurs in any row, in order of first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))


def data_digest(*row_sets: RowSet) -> str:
    """Return ``sha256:<hex>`` over every row of the sets as read: line numbers, columns and values."""
    digest = hashlib.sha256()
    for row_set in row_sets:
        digest.update(b"\x1e")
        for line, values in row_set.rows:
            text = json.dumps([line, values], sort_keys=True, ensure_ascii=False, default=str)
            digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return f"sha256:{digest.hexdigest()}"
