"""Columns of a task's data: which one plays which role, as the user names them or by names that are known."""

import difflib
import shlex
from collections.abc import Iterable, Mapping

from mask_store import TaskKind
from training.data.rows import RowSet
from training.errors import ColumnError, NoExamplesError
from training.kinds import TRAINING_KINDS, Columns
from training.kinds.fields import joined, numbered_columns
from training.options import Role

_LOOKED_AT = 100
_SHOWN_COLUMNS = 30
_TEXT_WORDS = 2.5  # words that texts have at least, on average; names and ids have fewer


ANSWERS: tuple[Role, ...] = ("label", "tags")
"""Roles of the columns that hold right answers."""


def choose_columns(
    kind: TaskKind,
    named: Mapping[Role, str | None],
    row_sets: Iterable[RowSet],
    *,
    answers: bool = True,
) -> dict[Role, str]:
    """Decide which column plays which role.

    A column that the user named must be there. Names that are known to go together, such as those of two
    texts, are looked for next, then the default name of each role.

    Args:
        kind: Kind of task.
        named: Column per role as the user named it, None for "the default".
        row_sets: The rows to learn from and the rows to check with; each must have every column.
        answers: Whether the rows have right answers; without, their roles are left out.

    Returns:
        Column per role; the role ``pair`` is absent where texts are single.

    Raises:
        NoExamplesError: A set holds no row at all.
        ColumnError: A column isn't there; lists the columns that are, and the nearest name.
    """
    first, *others = row_sets
    for rows in (first, *others):
        if not rows.rows:
            raise NoExamplesError(f"{rows.source}: the file is empty, there is no row to read")
    roles = TRAINING_KINDS[kind]
    there = first.columns
    chosen = _together(kind, named, there)
    for role, defaults in roles.columns.items():
        name = named.get(role)
        absent = not name and not any(_same_name(default, there) for default in defaults)
        if role in chosen or (role in roles.optional and absent) or (role in ANSWERS and not answers):
            continue
        chosen[role] = _find(role, (name,) if name else defaults, first.source, there, exact=bool(name))
    for rows in others:
        for role, column in chosen.items():
            _find(role, (column,), rows.source, rows.columns, exact=True)
    return {role: chosen[role] for role in roles.columns if role in chosen}


def describe_columns(columns: Columns) -> str:
    """Say which columns are used, by the options that name them."""
    return "columns: " + " ".join(f"--{role}-column {shlex.quote(name)}" for role, name in columns.items())


def unused_texts(rows: RowSet, columns: Columns) -> list[str]:
    """Return the columns that hold texts as well, and play no role."""
    used = {*columns.values(), *numbered_columns(rows.columns, columns.get("choices", ""))}
    looked_at = [row.values for row in rows.rows[:_LOOKED_AT]]
    return [name for name in rows.columns if name not in used and _holds_texts(looked_at, name)]


def _together(kind: TaskKind, named: Mapping[Role, str | None], there: tuple[str, ...]) -> dict[Role, str]:
    """Find columns whose names are known to go together, and that fit what the user named."""
    roles = TRAINING_KINDS[kind]
    for names in roles.together:
        wanted = {role: named.get(role) for role in names}
        if any(own and (role not in roles.optional or own != names[role]) for role, own in wanted.items()):
            continue
        found = {role: _same_name(name, there) for role, name in names.items()}
        if all(found.values()):
            return {role: column for role, column in found.items() if column}
    return {}


def _find(role: Role, candidates: tuple[str, ...], source: str, there: tuple[str, ...], exact: bool) -> str:
    for name in candidates:
        column = name if name in there else None if exact else _same_name(name, there)
        if column is not None:
            return column
        if role == "choices" and len(numbered_columns(there, name)) > 1:
            return name
    wanted = " or ".join(repr(name) for name in candidates)
    near = difflib.get_close_matches(candidates[0], there, n=1, cutoff=0.5)
    hint = (
        f"did you mean --{role}-column {shlex.quote(near[0])}?" if near else f"name it with --{role}-column"
    )
    listed = joined([repr(name) for name in there], _SHOWN_COLUMNS)
    raise ColumnError(f"{source}: no column {wanted}; there are {listed}; {hint}")


def _same_name(name: str, there: tuple[str, ...]) -> str | None:
    """Return the column of a name, or else the only one whose name differs by case alone."""
    alike = [column for column in there if column.casefold() == name.casefold()]
    return name if name in there else alike[0] if len(alike) == 1 else None


def _holds_texts(rows: list[Mapping[str, object]], name: str) -> bool:
    texts = [value for row in rows if isinstance(value := row.get(name), str) and value.strip()]
    if len(texts) < len(rows) / 2:
        return False
    return sum(len(text.split()) for text in texts) >= _TEXT_WORDS * len(texts)
