"""Control groups: what Linux allows this process and the groups around it, versions 2 and 1."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

_Limit = TypeVar("_Limit")


def of_groups(
    root: Path,
    controller: str,
    v1_mounts: Sequence[str],
    read_v2: Callable[[Path], _Limit | None],
    read_v1: Callable[[Path], _Limit | None],
) -> Iterator[_Limit]:
    """Read a limit of the group of this process and of each group around that one, where there is one.

    Args:
        root: Folder that holds proc and sys.
        controller: What limits, such as "cpu".
        v1_mounts: Names under which version 1 has it.
        read_v2: Reads the limit of a group of version 2 from its folder; None without one.
        read_v1: Likewise of version 1.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _along(mounts, path, read_v2)
        elif controller in controllers.split(","):
            for name in v1_mounts:
                yield from _along(mounts / name, path, read_v1)


def _along(mount: Path, path: str, read: Callable[[Path], _Limit | None]) -> Iterator[_Limit]:
    """Limits of a group and of those around it; in a container the mount itself may be the group."""
    group = mount / path.lstrip("/")
    for folder in (group, *group.parents):
        if folder.is_relative_to(mount) and (limit := read(folder)) is not None:
            yield limit
