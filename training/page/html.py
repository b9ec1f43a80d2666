"""HTML: escaped text, elements, tables. Nothing else of the page writes markup of what it was given."""

import html
import re
from collections.abc import Iterable, Sequence

_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def escaped(text: object) -> str:
    """Return text as HTML, for contents and for attributes; what HTML can't hold becomes U+FFFD."""
    return html.escape(_FORBIDDEN.sub("\ufffd", str(text)))


def section(title: str, *parts: str) -> str:
    """Return a section with a heading; nothing where it has no parts.

    Args:
        title: The heading.
        parts: What is in it, as HTML.
    """
    there = [part for part in parts if part]
    return f"<section><h2>{escaped(title)}</h2>{''.join(there)}</section>" if there else ""


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Return a table that scrolls by itself where it is too wide.

    Args:
        caption: What is in it.
        head: Names of the columns.
        rows: Cells as HTML, whole elements (`th`, `td`).
        kind: Class of the table.
    """
    names = "".join(f'<th scope="col"><span>{escaped(name)}</span></th>' for name in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(caption)}">'
        f'<table class="{kind}"><caption>{escaped(caption)}</caption><thead><tr>{names}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def row_head(text: object) -> str:
    """Return the cell that names a row."""
    return f'<th scope="row"><bdi>{escaped(text)}</bdi></th>'


def cell(text: object, *, share: float | None = None, kind: str = "") -> str:
    """Return a cell.

    Args:
        text: What is in it.
        share: How strongly it is coloured, 0 to 1.
        kind: Class of the cell.
    """
    style = "" if share is None else f' style="--share:{share:.3f}"'
    return f'<td class="{kind}"{style}>{escaped(text)}</td>'
