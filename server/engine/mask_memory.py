"""Mask memory: how many bytes of masks may be held, from what is free once the base is loaded."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from mask_store import human_bytes
from server.threads.groups import of_groups

logger = logging.getLogger(__name__)

_SHARE = 0.5
"""Of what is free; the rest is for activations, bodies of requests, and bundles that are being read."""


def mask_memory(wanted: int | None, device: torch.device, root: Path = Path("/")) -> int | None:
    """Choose how many bytes of masks may be held, and tell it.

    Args:
        wanted: What the operator set; None for half of what is free.
        device: Where the masks are.
        root: Folder that holds proc and sys.

    Returns:
        The bytes; None for no limit, where the system does not tell what is free.
    """
    if wanted is not None:
        logger.info("masks may take %s", human_bytes(wanted))
        return wanted
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory(root)
    if free is None:
        logger.info("masks may take any memory, as this system does not tell what is free (--mask-memory)")
        return None
    most = int(free * _SHARE)
    logger.info(
        "masks may take %s, half of the %s that are free (--mask-memory)",
        human_bytes(most),
        human_bytes(free),
    )
    return most


def free_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may still take, by the machine and by its control groups.

    Args:
        root: Folder that holds proc and sys.

    Returns:
        The smallest of them; None where the system does not tell.
    """
    groups = of_groups(root, "memory", ("memory",), _read_v2, _read_v1)
    return min((*_available(root), *(max(0, left) for left in groups)), default=None)


def _available(root: Path) -> Iterator[int]:
    with suppress(OSError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                yield int(value.split()[0]) * 1024


def _read_v2(folder: Path) -> int | None:
    return _left(folder, "memory.max", "memory.current", "inactive_file")


def _read_v1(folder: Path) -> int | None:
    return _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _left(folder: Path, most: str, now: str, cached: str) -> int | None:
    """Return what a group has left; files that it has read but does not use count as free."""
    try:
        limit, used = (folder / most).read_text().strip(), int((folder / now).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        files = next((int(line.split()[1]) for line in lines if line.startswith(f"{cached} ")), 0)
        return None if limit == "max" else int(limit) - used + files
    except (OSError, ValueError):
        return None
