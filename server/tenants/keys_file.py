"""Keys file: the API keys of a server as hashes, each with a name, the tasks it may call, and its limits.

The file is JSON: ``{"keys": [{"name": ..., "sha256": ..., "tasks": [...], ...}]}``. It holds the SHA-256 of
each key and no key. A key is made by the command, of 256 random bits: nobody can guess one and compare its
hash, so neither a salt nor a slow hash would add anything, and a request is checked in microseconds.
"""

import os
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mask_store.messages import escape_controls

try:
    import fcntl
except ImportError:  # Windows; whoever changes a file there has to be alone
    fcntl = None  # type: ignore[assignment]

KEY_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_TASKS = r"[a-z0-9._*?\[\]!-]{1,128}"
_PREFIX = "msk_"  # by which scanners for secrets find one
_KEY_BYTES = 32
_MOST_BYTES = 4 << 20
_MOST_SHOWN = 3


class KeysFileError(ValueError):
    """The file can't be read, or does not say what it should; the message holds nothing of the keys."""


class KeyEntry(BaseModel):
    """One key of the file.

    Attributes:
        name: What it is called in logs and metrics.
        sha256: SHA-256 of the key, in hexadecimal digits.
        tasks: Names of tasks that it may call, or patterns as in ``guard-*``.
        rows_per_second: Rows that it may ask on average; None for any number.
        rows_in_flight: Rows that may be computed for it at a time; None for any number.
        admin: Whether it may change these tasks, too.
        created: When it was made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=f"^{KEY_NAME}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    tasks: tuple[Annotated[str, StringConstraints(pattern=f"^{_TASKS}$")], ...] = Field(
        min_length=1, max_length=1000
    )
    rows_per_second: float | None = Field(None, gt=0, le=1e9)
    rows_in_flight: int | None = Field(None, ge=1)
    admin: bool = False
    created: datetime | None = None


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[KeyEntry, ...]


def new_key() -> str:
    """Return a new key: 43 random letters after a prefix, 256 bits."""
    return f"{_PREFIX}{secrets.token_urlsafe(_KEY_BYTES)}"


def hash_of(key: str) -> bytes:
    """Return the SHA-256 of a key, 32 bytes."""
    return sha256(key.encode(errors="surrogateescape")).digest()


def read_keys(file: Path) -> tuple[KeyEntry, ...]:
    """Read a keys file.

    Raises:
        KeysFileError: It can't be read, or is no such file, or has a name or a key twice.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise KeysFileError(f"the keys file {file} can't be read: {error.strerror or error}") from None
    return parse_keys(content, str(file))


def parse_keys(content: bytes, where: str) -> tuple[KeyEntry, ...]:
    """Parse a keys file; see `read_keys`.

    Args:
        content: Its bytes.
        where: What messages call it.
    """
    if len(content) > _MOST_BYTES:
        raise KeysFileError(f"the keys file {where} has more than {_MOST_BYTES} bytes")
    try:
        keys = _Document.model_validate_json(content).keys
    except ValidationError as error:
        raise KeysFileError(f"the keys file {where} is not right: {_explained(error)}") from None
    for field in ("name", "sha256"):
        counts = Counter(getattr(key, field) for key in keys)
        if twice := next((key.name for key in keys if counts[getattr(key, field)] > 1), None):
            raise KeysFileError(f"the keys file {where} has the {field} of key {twice!r} twice")
    return keys


@contextmanager
def changing(file: Path) -> Iterator[list[KeyEntry]]:
    """Change a keys file, which may be missing, alone: what the list holds at the end is written.

    Readers see the file before or after the change. Its rights stay; a new file is for its owner alone.

    Yields:
        The keys, in order.

    Raises:
        KeysFileError: The file can't be read or written, or would not be right.
    """
    try:
        with _locked(file.parent):
            keys = list(read_keys(file)) if file.exists() else []
            yield keys
            content = (
                _Document(keys=tuple(keys)).model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
            )
            parse_keys(content, str(file))
            _replace(file.resolve(), content)
    except OSError as error:
        raise KeysFileError(f"the keys file {file} can't be written: {error.strerror or error}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which leaves no file behind."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(file: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(handle, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        if file.exists():
            os.chmod(temporary, file.stat().st_mode & 0o777)
        os.replace(temporary, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _explained(error: ValidationError) -> str:
    """Return what is wrong and where, without what is written there: it may be a key."""
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{_where(mistake['loc'])}: {mistake['msg']}" for mistake in mistakes[:_MOST_SHOWN]]
    if len(mistakes) > len(shown):
        shown.append(f"and {len(mistakes) - len(shown)} more")
    return escape_controls("; ".join(shown))


def _where(location: Sequence[int | str]) -> str:
    """Return the place of a mistake; a field that is not known is not quoted, for it may be a key."""
    known = {"keys", *KeyEntry.model_fields}
    return ".".join(str(one) if isinstance(one, int) or one in known else "?" for one in location) or "file"
