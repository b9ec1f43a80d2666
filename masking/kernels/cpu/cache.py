"""Kernel cache: where numba keeps compiled kernels, so that the next process need not compile them.

numba looks beside the code and in the user's cache folder, and refuses to compile where it can write to
neither, as in a container with a read-only root or a foreign user. Then a folder of this user's own below the
temporary one is used, and where there is none either, kernels are compiled anew in each process.
"""

import logging
import os
import stat
import tempfile
from pathlib import Path

from numba import config, njit

logger = logging.getLogger(__name__)


def _decide() -> bool:
    """Find a folder for compiled kernels; returns whether there is one."""
    if _numba_finds_one():
        return True
    own = private_folder(Path(tempfile.gettempdir()))
    if own is None:
        logger.warning("no folder can be written to for compiled kernels; they are compiled at each start")
        return False
    config.CACHE_DIR = str(own)
    return _numba_finds_one()


def _numba_finds_one() -> bool:
    try:
        _numbas_folder()
    except RuntimeError:
        return False
    return True


def _numbas_folder() -> Path:
    return Path(njit(cache=True)(_probe).stats.cache_path)  # compiles nothing: it only looks for a folder


def folder() -> Path | None:
    """Return the folder where kernels of this package's modules are kept; None where they are not."""
    return _numbas_folder() if CACHED else None


def _probe() -> None:
    """Stand for the kernels, which lie in the same folder."""


def private_folder(parent: Path) -> Path | None:
    """Make a folder that only this user can write to, or find the one that an earlier process made.

    Compiled code is run as it is, so a folder that somebody else prepared is never used.

    Args:
        parent: Folder to make it in; may be open to all.

    Returns:
        The folder; None where none can be made.
    """
    folder = parent / f"maskserve-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
        return Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=parent))
    except OSError:
        return None


CACHED = _decide()
