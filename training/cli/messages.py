"""What a user is told on the way: short lines of text, from the first process alone.

The functions of this package print nothing; they take a `Say` and commands hand them `say`.
"""

import sys
from collections.abc import Callable

from training.distributed import is_main

Say = Callable[[str], None]


def say(text: str) -> None:
    """Tell the user something on the way, on stderr."""
    print(text, file=sys.stderr, flush=True)


def silent(text: str) -> None:
    """Say nothing."""


def heard(say: Say | None) -> Say:
    """Return what says in the first process alone; nothing is said for None."""
    return say if say and is_main() else silent
