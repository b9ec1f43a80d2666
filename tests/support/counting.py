"""Counting: what a caller costs a store, in files that are read and hashes that are computed."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest

from mask_store.files import LocalFiles, RemoteFiles


class StoreReads:
    """Counts from here on, until the test ends.

    Attributes:
        paths: Every file that was read of any store, relative to the store, in order.
        hashes: How often a SHA-256 was begun, by anyone.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace what reads and what hashes by what counts as well."""
        self.paths: list[str] = []
        self.hashes = 0
        for kind in (LocalFiles, RemoteFiles):
            monkeypatch.setattr(kind, "read", self._counting_read(kind.read))
        monkeypatch.setattr(RemoteFiles, "read_many", self._counting_read_many(RemoteFiles.read_many))
        monkeypatch.setattr(hashlib, "sha256", self._counting_hash(hashlib.sha256))

    def clear(self) -> None:
        """Begin at nothing again."""
        self.paths.clear()
        self.hashes = 0

    def _counting_read(self, read: Any) -> Any:
        def counted(files: Any, path: str, most: int) -> bytes:
            self.paths.append(path)
            return bytes(read(files, path, most))

        return counted

    def _counting_read_many(self, read_many: Any) -> Any:
        def counted(files: Any, paths: Sequence[str], most: int) -> Any:
            self.paths += paths
            return read_many(files, paths, most)

        return counted

    def _counting_hash(self, sha256: Any) -> Any:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.hashes += 1
            return sha256(*arguments, **keywords)

        return counted
