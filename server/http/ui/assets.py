"""Assets: the console's files, held in memory with their digests and compressed forms.

Nothing is looked up on disk for a request. An ETag is made of the contents, so that all replicas of a release
agree on it, whatever the times of their files. The page names its files below a digest of all of them, so a
browser may keep them for good: another release has other addresses.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE = "index.html"
RELEASE = re.compile(r"[0-9a-f]{16}/")
"""What stands before the path of a file that never changes: some release's digest."""

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """One file.

    Attributes:
        content: Its bytes.
        packed: The same, by gzip.
        media_type: For Content-Type.
        etag: Strong validator of `content`; that of `packed` is `packed_etag`.
    """

    content: bytes
    packed: bytes
    media_type: str
    etag: str

    @property
    def packed_etag(self) -> str:
        """Strong validator of `packed`."""
        return f'{self.etag[:-1]}-gzip"'

    @classmethod
    def of(cls, content: bytes, suffix: str) -> "Asset":
        """Pack a file's content; the suffix of its name says its type."""
        return cls(content, gzip.compress(content, mtime=0), _TYPES[suffix], f'"{_digest(content)[:32]}"')


@cache
def assets() -> Mapping[str, Asset]:
    """Return every file by its path below the folder, such as ``pages/tasks.js``; read once.

    In the page, ``ui/`` at the start of an address is followed by `release`.
    """
    contents = _contents()
    contents[PAGE] = contents[PAGE].replace(b'="ui/', f'="ui/{release()}'.encode())
    return {name: Asset.of(content, Path(name).suffix) for name, content in contents.items()}


@cache
def release() -> str:
    """Return the digest of all files as it stands in addresses, with a slash at its end."""
    return f"{_digest(b''.join(_contents().values()))[:16]}/"


def _contents() -> dict[str, bytes]:
    files = sorted(path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in files}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
