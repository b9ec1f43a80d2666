"""Connection limits: times, sizes, and how many connections the limit of open files allows."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_BY_DEFAULT = 4096
_FEWEST = 4
_RESERVE = 8
_OWN_FILES = 32  # more open files than now: of looks at the store, loads and uploads
_OPEN_FILES = Path("/proc/self/fd")
_OPEN_ELSEWHERE = 64  # where the system does not tell


@dataclass(frozen=True)
class ConnectionLimits:
    """What holds for the connections of one process.

    Attributes:
        head_seconds: Most seconds from the first byte of a request to the end of its headers.
        head_bytes: Most bytes of request line and headers.
        most: How many connections are served at once.
        reserve: How many more are taken, to answer probes and to tell others that there are too many.
    """

    head_seconds: float
    head_bytes: int
    most: int
    reserve: int = _RESERVE


def most_connections(wanted: int) -> int:
    """Return how many connections to take, within the limit of open files (`ulimit -n`).

    Args:
        wanted: What the operator set; 0 for the default.
    """
    allowed = _allowed_by_files()
    wanted = wanted or _BY_DEFAULT
    return wanted if allowed is None else max(_FEWEST, min(wanted, allowed))


def _allowed_by_files() -> int | None:
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - there is none on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return None
    in_use = len(os.listdir(_OPEN_FILES)) if _OPEN_FILES.is_dir() else _OPEN_ELSEWHERE
    return limit - in_use - min(_OWN_FILES, limit // 4) - _RESERVE
