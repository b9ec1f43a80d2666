"""Callers: keys of the settings and of the keys file, which is read again whenever it changes.

A key is looked up by the first bytes of its SHA-256, and the whole hash is compared in constant time. What a
clock could tell is about the hash of the guess, not about any key.
"""

import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from server.errors import AdminDisabledError, UnauthorizedError
from server.tenants.caller import EVERYONE, Caller, one_of
from server.tenants.keys_file import KeyEntry, KeysFileError, hash_of, read_keys
from server.tenants.quota import Limits, Quota
from server.threads.supervision import SupervisedThread, do_nothing

logger = logging.getLogger(__name__)

SHARED = "(api-keys)"
ADMIN = "(admin)"
_LOOKED_UP = 8  # bytes of a hash
_LOOK_SECONDS = 1.0
_YOUNG_SECONDS = 2.0
"""A file that was changed less than this ago may change again without looking different."""


@dataclass(frozen=True)
class _Known:
    hash: bytes
    caller: Caller


_UNKNOWN = _Known(secrets.token_bytes(32), EVERYONE)
_Table = Mapping[bytes, _Known]


class Callers:
    """Who may call; safe to ask from any thread.

    Attributes:
        thread: Looks at the keys file; None without one.
        problem: What is wrong with the file, while the keys that it had before are in force; None if nothing.
        on_look: Called after each look at the file, in the thread.
    """

    def __init__(
        self, api_keys: Sequence[str] = (), admin_key: str | None = None, file: Path | None = None
    ) -> None:
        """Take keys, and read those of the file.

        Args:
            api_keys: Keys that may call every task.
            admin_key: A key that may change every task, too.
            file: A keys file.

        Raises:
            KeysFileError: The file can't be read, or is not right.
        """
        self.on_look: Callable[[], None] = do_nothing
        self.problem: str | None = None
        self._file = file
        self._own = _of_settings(api_keys, admin_key)
        self._named: Mapping[str, Caller] = {}
        self._entries: tuple[KeyEntry, ...] | None = None
        self._table: _Table = self._own
        self._closed = bool(api_keys) or file is not None
        self._seen: object = None
        self._stopping = Event()
        self.thread = None if file is None else SupervisedThread("keys watcher", self._watch)
        if file is not None:
            self._read(file)

    @property
    def names(self) -> frozenset[str]:
        """Names of all keys of the file."""
        return frozenset(self._named)

    @property
    def all_names(self) -> frozenset[str]:
        """Names of all keys, those of the settings among them."""
        return frozenset(known.caller.name for known in self._table.values())

    def client(self, key: str) -> Caller:
        """Return who calls; an empty key is none.

        Raises:
            UnauthorizedError: It is no key, and the server asks for one.
        """
        found = self._find(key)
        if found is None and self._closed:
            raise UnauthorizedError
        return found or EVERYONE

    def admin(self, key: str) -> Caller:
        """Return who calls to change tasks.

        Raises:
            AdminDisabledError: There is no key that may change any.
            UnauthorizedError: It is none of those.
        """
        if not any(known.caller.admin for known in self._table.values()):
            raise AdminDisabledError
        found = self._find(key)
        if found is None or not found.admin:
            raise UnauthorizedError
        return found

    def start(self) -> None:
        """Begin to look at the file."""
        if self.thread is not None:
            self.thread.start()

    def close(self, seconds: float) -> None:
        """Stop looking at the file."""
        self._stopping.set()
        if self.thread is not None:
            self.thread.stop()
            self.thread.join(seconds)

    def poll(self) -> None:
        """Look at the file once; one that can't be read leaves the keys as they were."""
        assert self._file is not None
        try:
            self._read(self._file)
        except KeysFileError as error:
            if self.problem != str(error):
                logger.error("%s; the keys that it had before are in force", error)
            self.problem = str(error)
            return
        if self.problem is not None:
            logger.info("the keys file %s is right again", self._file)
        self.problem = None

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self.poll()
            self.on_look()

    def _read(self, file: Path) -> None:
        """Take the keys of the file if it looks different."""
        looks = _looks(file)
        if looks is not None and looks == self._seen:
            return
        self._seen = None
        entries = read_keys(file)
        self._seen = looks
        if entries == self._entries:
            return
        before, self._entries = self.names, entries
        self._named = {entry.name: self._caller(entry) for entry in entries}
        known = (_Known(bytes.fromhex(entry.sha256), self._named[entry.name]) for entry in entries)
        self._table = {**{one.hash[:_LOOKED_UP]: one for one in known}, **self._own}
        _tell(file, before, self.names)

    def _caller(self, entry: KeyEntry) -> Caller:
        """Return the caller of a key; one that there was before keeps what it used of its limits."""
        limits = Limits(entry.rows_per_second, entry.rows_in_flight)
        before = self._named.get(entry.name)
        quota = Quota(entry.name, limits) if before is None else before.quota
        quota.limits = limits
        return Caller(entry.name, one_of(entry.tasks), entry.admin, quota)

    def _find(self, key: str) -> Caller | None:
        if not key or not self._table:
            return None
        given = hash_of(key)
        known = self._table.get(given[:_LOOKED_UP], _UNKNOWN)
        return known.caller if hmac.compare_digest(known.hash, given) else None


def _of_settings(api_keys: Sequence[str], admin_key: str | None) -> _Table:
    table, shared = {}, Caller(SHARED)
    keys = [(key, shared) for key in api_keys]
    if admin_key is not None:
        keys.append((admin_key, Caller(ADMIN, admin=True)))
    for key, caller in keys:
        known = _Known(hash_of(key), caller)
        table[known.hash[:_LOOKED_UP]] = known
    return table


def _looks(file: Path) -> object:
    """Return what tells a changed file; None where a look can't tell."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    if time.time() - found.st_mtime < _YOUNG_SECONDS:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _tell(file: Path, before: frozenset[str], now: frozenset[str]) -> None:
    changes = {"new": sorted(now - before), "gone": sorted(before - now)}
    told = "".join(f"; {what}: {', '.join(names)}" for what, names in changes.items() if names)
    logger.info("keys file %s: %d keys%s", file, len(now), told)
