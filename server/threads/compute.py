"""Compute threads: how many the CPU quota allows, and how they wait between pieces of work.

`leave_cores_free` comes before torch is imported, whose OpenMP library reads the environment when it is
loaded.
"""

import math
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from server.threads.groups import of_groups

_V1_MOUNTS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def leave_cores_free(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let libraries take cores only for work; what the user has set in the environment stays.

    OpenMP threads sleep between parallel regions. By default they spin for a while, which takes the cores
    from the threads that read requests and from everything else on the machine. Tokenizers take one text
    after another, as the cores belong to the model.
    """
    if "GOMP_SPINCOUNT" not in environment:
        environment.setdefault("OMP_WAIT_POLICY", "passive")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")


def allowed_threads(default: int, root: Path = Path("/")) -> int:
    """Return how many compute threads to use where the user named no number.

    Args:
        default: What the compute library takes by itself: the cores this process may run on.
        root: Folder that holds proc and sys.

    Returns:
        The CPU quota in cores, rounded up, or `default` where that is less or there is no quota.
    """
    quota = cpu_quota(root)
    return default if quota is None else min(default, max(1, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Read how many cores' time the control groups of this process allow (cgroup v2 and v1).

    Args:
        root: Folder that holds proc and sys.

    Returns:
        The smallest quota of its group and the groups around that one, in cores; None without one.
    """
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    return of_groups(root, "cpu", _V1_MOUNTS, _read_v2, _read_v1)


def _read_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _read_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None
