"""Preflight checks: what is wrong with base, store, keys file and port is told before torch is imported."""

import errno
import socket
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from fsspec.core import split_protocol

from mask_store import MaskStore, MaskStoreError, StoreNotFoundError
from masking.base_folder import check_folder
from masking.errors import BaseLoadError
from server.settings import Settings
from server.tenants.keys_file import KeysFileError, read_keys


def problems(settings: Settings) -> list[str]:
    """Return what keeps a server with these settings from starting, one sentence each; cheap.

    Args:
        settings: What the operator set.
    """
    checks = (
        _temporary_folder(),
        _base(settings.base),
        _store(settings),
        _keys(settings.keys_file),
        _port(settings.host, settings.port),
        _grpc(settings.host, settings.port, settings.grpc_port),
    )
    return [problem for found in checks for problem in found]


def _temporary_folder() -> Iterator[str]:
    try:
        tempfile.gettempdir()
    except OSError:
        yield "no temporary folder can be written to: mount one at /tmp, or name one by TMPDIR"


def _base(base: str) -> Iterator[str]:
    """Look at a folder; whether a hub has a name is found out by asking it."""
    try:
        check_folder(base)
    except (BaseLoadError, OSError) as error:
        yield f"--base {base}: {error}"


def _store(settings: Settings) -> Iterator[str]:
    """Look at a folder; whether there is a store at a URL is found out by asking there."""
    if split_protocol(settings.store)[0] is not None:
        return
    try:
        MaskStore.open(settings.store)
    except StoreNotFoundError as error:
        if not settings.makes_store:
            yield store_problem(error)
    except MaskStoreError as error:
        yield store_problem(error)


def store_problem(error: MaskStoreError) -> str:
    """Return why the store can't be opened, for an operator."""
    hint = "; --create-store makes an empty one" if isinstance(error, StoreNotFoundError) else ""
    return f"{error}{hint}"


def _keys(file: Path | None) -> Iterator[str]:
    if file is None:
        return
    try:
        read_keys(file)
    except KeysFileError as error:
        yield f"--keys-file: {error}"


def _grpc(host: str, port: int, own: int | None) -> Iterator[str]:
    if own is None:
        return
    if not all(find_spec(name) for name in ("grpc", "google.protobuf")):
        yield "--grpc-port: gRPC needs its package: pip install 'maskserve[grpc]'"
    if own and own == port:
        yield f"--grpc-port {own}: is the port of HTTP (--port) already"
    else:
        yield from _port(host, own, option="--grpc-port")


def _port(host: str, port: int, *, option: str = "--port") -> Iterator[str]:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        yield f"--host {host}: {error.strerror or error}"
        return
    with socket.socket(family, kind) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            trial.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield f"{option} {port}: in use on {host}; {option} 0 takes a free one"
            elif error.errno == errno.EACCES:
                yield f"{option} {port}: not allowed for this user; ports from 1024 on are"
            else:
                yield f"--host {host}: {error.strerror}"
