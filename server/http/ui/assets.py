"""Assets: the console's files, held in memory with their digests and compressed forms.

Nothing is looked up on disk for a request. An ETag is made of the contents, so that all replicas of a release
agree on it, whatever the times of their files.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
    def read(cls, path: Path) -> "Asset":
        """Read a file."""
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:32]
        return cls(content, gzip.compress(content, mtime=0), _TYPES[path.suffix], f'"{digest}"')


@cache
def assets() -> Mapping[str, Asset]:
    """Return every file by its path below the folder, such as ``pages/tasks.js``; read once."""
    files = sorted(path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
    return {path.relative_to(_FOLDER).as_posix(): Asset.read(path) for path in files}
