"""Connection limits: times, sizes, and how many connections the limit of open files allows."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_MOST_BY_DEFAULT = 4096
_FEWEST = 4
_OWN_FILES = 32  # of the store's watcher, of loads and of uploads
_RESERVE = 8
_OPEN_FILES = Path("/proc/self/fd")
_USED_ELSEWHERE = 64  # open files, where the system does not tell


@dataclass(frozen=True)
class ConnectionLimits:
    """What holds for the connections of one process.

    Attributes:
        head_seconds: Most seconds from the first byte of a request to the end of its headers.
        head_bytes: Most bytes of the request line and headers.
        most: How many connections are served at once.
        reserve: How many more are taken to answer probes, and to tell the others that there are too many.
    """

    head_seconds: float
    head_bytes: int
    most: int
    reserve: int = _RESERVE


def connections_by_files() -> int:
    """Return how many connections this process may have, by its limit of open files (`ulimit -n`)."""
    if sys.platform == "win32":
        return _MOST_BY_DEFAULT
    import resource  # noqa: PLC0415 - not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_BY_DEFAULT
    used = len(os.listdir(_OPEN_FILES)) if _OPEN_FILES.is_dir() else _USED_ELSEWHERE
    own = min(_OWN_FILES, soft // 8)
    return max(_FEWEST, min(_MOST_BY_DEFAULT, soft - used - own - _RESERVE))
