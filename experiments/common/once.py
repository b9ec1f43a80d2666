"""Once: a value that takes time to make, made once and kept in a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def once(path: Path, make: Callable[[], Any]) -> Any:
    """Return the JSON value of a file, made now if the file isn't there.

    Args:
        path: The file; its name tells what the value follows from.
        make: Makes the value.
    """
    if not path.is_file():
        part = path.with_suffix(".part")
        part.write_text(json.dumps(make()), encoding="utf-8")
        part.replace(path)
    return json.loads(path.read_text(encoding="utf-8"))
