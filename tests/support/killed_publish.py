"""Killed publish: a process that ends in the middle of a publish, at each of its system calls in turn.

Usage: python -m tests.support.killed_publish FOLDER
Makes stores FOLDER/<n> with one published version and kills a second publish at its call n // 2, before the
call for even n and after it for odd n. Prints one JSON line for each; the last is the publish that survived.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mask_store import MaskStore
from tests.support.bundles import version_bundle

CALLS = ("open", "write", "fsync", "close", "replace", "link", "unlink", "mkdir")
KILLED = 9


def main(folder: Path) -> None:
    for number in range(1000):
        store = MaskStore.open(folder / str(number), create=True)
        store.publish(version_bundle(seed=0))
        child = os.fork()
        if child == 0:
            die_at(number)
            store.publish(version_bundle(seed=1))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"store": str(number), "status": os.waitstatus_to_exitcode(status)}), flush=True)
        if os.waitstatus_to_exitcode(status) != KILLED:
            return


def die_at(number: int) -> None:
    """Count calls from now on; `_exit` skips every handler, like a kill."""
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            this, count = count, count + 1
            if this * 2 == number:
                os._exit(KILLED)
            try:
                return call(*arguments, **keywords)
            finally:
                if this * 2 + 1 == number:
                    os._exit(KILLED)

        return wrapper

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
