"""Bundle cache: copies of bundles on a disk of this machine, for a store that is far away.

A copy is called by its digest and is held to it whenever it is read, so that one that is damaged, or was
never written whole, counts as missing. The folder may be lost at any time. Where it would become too large,
the copies that were used least recently are removed.
"""

import logging
import os
import re
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from threading import Lock

from mask_store.errors import StoreError
from mask_store.files import LocalFiles
from mask_store.format.bundle import digest_of

logger = logging.getLogger(__name__)

_COPY = re.compile(r"([0-9a-f]{64})\.safetensors")


class BundleCache:
    """Bundles by digest in a folder of one process; safe to use from any thread."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Use a folder, with what an earlier process left there; it is made when something is kept.

        Args:
            folder: The folder; other files in it are left alone.
            most_bytes: Most bytes of all copies.
        """
        self._folder, self._files = folder, LocalFiles(folder)
        self._most_bytes = most_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self._told = False
        self._files.sweep()
        for _, name, size in sorted(_copies(folder)):
            self._note(name, size)
        self._shrink()

    @property
    def nbytes(self) -> int:
        """Bytes of all copies."""
        return self._bytes

    def read(self, digest: str, size: int) -> bytes | None:
        """Return a bundle, or None if there is no copy of it that is whole.

        Args:
            digest: Digest of the bundle.
            size: Its bytes.
        """
        name = _name(digest)
        if name not in self._sizes:
            return None
        with suppress(StoreError, FileNotFoundError):
            data = self._files.read(name, size + 1)
            if len(data) == size and digest_of(data) == digest:
                self._note(name, size)
                with suppress(OSError):
                    os.utime(self._folder / name)
                return data
        self._remove(name)
        return None

    def keep(self, digest: str, data: bytes) -> None:
        """Keep a copy of a bundle, if it fits in; a disk that can't be written to is told once."""
        if len(data) > self._most_bytes:
            return
        name = _name(digest)
        try:
            self._files.replace(name, data)
        except StoreError as error:
            if not self._told:
                self._told = True
                logger.warning("copies of bundles can't be kept: %s", error)
            return
        self._note(name, len(data))
        self._shrink()

    def _note(self, name: str, size: int) -> None:
        """Note that a copy is there and was used now."""
        with self._lock:
            self._bytes += size - self._sizes.pop(name, 0)
            self._sizes[name] = size

    def _shrink(self) -> None:
        while self._bytes > self._most_bytes and (name := next(iter(self._sizes), None)) is not None:
            self._remove(name)

    def _remove(self, name: str) -> None:
        with self._lock:
            self._bytes -= self._sizes.pop(name, 0)
        with suppress(StoreError):
            self._files.remove(name)


def _name(digest: str) -> str:
    return f"{digest.removeprefix('sha256:')}.safetensors"


def _copies(folder: Path) -> list[tuple[float, str, int]]:
    """Return when each copy in a folder was used last, its file's name and its bytes."""
    found = []
    with suppress(OSError):
        for entry in os.scandir(folder):
            if _COPY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime, entry.name, status.st_size))
    return found
