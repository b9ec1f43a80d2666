"""Kernel cache: where numba keeps compiled kernels, so that the next process need not compile them.

numba looks beside the code and in the user's cache folder, and refuses to compile where it can write to
neither, as in a container with a read-only root or a foreign user. Then a folder of this user's own below the
temporary one is used, and where there is none either, kernels are compiled anew in each process.

NUMBA_CACHE_DIR may name a folder of kernels that were compiled ahead, as an image has. numba does not read a
folder that it can't write to, so such kernels are copied to the folder of this user's own. They are used on
the processor that they were compiled for; for another one numba compiles, and keeps both.
"""

import logging
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from numba import config, njit

logger = logging.getLogger(__name__)


def _decide() -> bool:
    """Find a folder for compiled kernels; returns whether there is one."""
    ahead = compiled_ahead()
    if ahead is None and _numba_finds_one():
        return True
    own = private_folder(Path(tempfile.gettempdir()), "" if ahead is None else f"-{_digest(ahead)}")
    if own is None:
        logger.warning("no folder can be written to for compiled kernels; they are compiled at each start")
        return False
    if ahead is not None:
        with suppress(OSError):  # what is not there is compiled
            copy_kernels(ahead, own)
    config.CACHE_DIR = str(own)
    return _numba_finds_one()


def compiled_ahead() -> Path | None:
    """Return the folder of NUMBA_CACHE_DIR if it has kernels and can't be written to."""
    folder = Path(config.CACHE_DIR)
    if not config.CACHE_DIR or os.access(folder, os.W_OK):
        return None
    return folder if _indexes(folder) else None


def copy_kernels(ahead: Path, own: Path) -> None:
    """Copy the kernels that are not there yet; another process may do the same, or read them, meanwhile."""
    for index in _indexes(ahead):
        folder = own / index.parent.relative_to(ahead)
        folder.mkdir(exist_ok=True, parents=True)
        if (folder / index.name).exists():
            continue
        for file in (*index.parent.glob(f"{index.stem}.*.nbc"), index):  # the index last: it names the others
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
                shutil.copyfile(file, copy.name)
            Path(copy.name).replace(folder / file.name)


def _indexes(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nbi"))


def _digest(ahead: Path) -> str:
    """Tell kernels of one release from those of another."""
    return sha256(b"".join(index.read_bytes() for index in _indexes(ahead))).hexdigest()[:12]


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


def private_folder(parent: Path, suffix: str = "") -> Path | None:
    """Make a folder that only this user can write to, or find the one that an earlier process made.

    Compiled code is run as it is, so a folder that somebody else prepared is never used.

    Args:
        parent: Folder to make it in; may be open to all.
        suffix: Of its name.

    Returns:
        The folder; None where none can be made.
    """
    folder = parent / f"maskserve-kernels-{os.getuid()}{suffix}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
        return Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=parent))
    except OSError:
        return None


CACHED = _decide()
