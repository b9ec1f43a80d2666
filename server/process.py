"""Server process: load the base, open the store, listen, drain at SIGTERM."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from functools import partial
from threading import Timer
from types import FrameType
from typing import TYPE_CHECKING, cast

import uvicorn

from mask_store import MaskStoreError
from masking import MaskingError
from server.build import build_service
from server.connections import Connection, ConnectionLimits, most_connections
from server.http.app import create_app
from server.preflight import store_problem
from server.service import Service
from server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from server.http.grpc.server import GrpcServer

logger = logging.getLogger(__name__)

_FAILED = 1
_USAGE = 2
_LAST_SECONDS = 5.0  # after the shutdown's own, before threads that hang are left behind


def run(settings: Settings, prog: str) -> int:
    """Build the service and serve.

    Args:
        settings: What the operator set.
        prog: The program's name, for messages.

    Returns:
        The exit code of the process, as `server.__main__.main` describes.
    """
    try:
        service = build_service(settings, own_process=True)
    except SettingsError as error:
        return _complain(prog, str(error), _USAGE)
    except MaskStoreError as error:
        return _complain(prog, store_problem(error), _FAILED)
    except MaskingError as error:
        return _complain(prog, str(error), _FAILED)
    return serve(service, settings)


def serve(service: Service, settings: Settings) -> int:
    """Serve until a signal comes; requests in flight are answered first.

    Returns:
        The exit code of the process: 0 after a signal, 1 if it could not listen or a thread died too often.
    """
    server = _Server(_uvicorn_config(service, settings), service)
    # uvicorn drains at SIGTERM and then raises the signal again, for the handler that was there before it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        server.run()
    except SystemExit as leaving:  # by `_leave`, or uvicorn's own code where it could not start
        failed = bool(leaving.code)
    else:
        failed = server.failed or not server.started
    if service.failure is not None:
        logger.critical("ended with exit code %d: %s", _FAILED, service.failure)
    return _FAILED if failed or service.failure is not None else 0


def _uvicorn_config(service: Service, settings: Settings) -> uvicorn.Config:
    limits = ConnectionLimits(
        head_seconds=settings.head_seconds,
        head_bytes=settings.max_head_bytes,
        most=most_connections(settings.max_connections),
    )
    return uvicorn.Config(
        create_app(service),
        host=settings.host,
        port=settings.port,
        http=cast("type[asyncio.Protocol]", partial(Connection, limits=limits)),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(settings.forwarded_allow_ips),
        timeout_keep_alive=cast(int, settings.keep_alive_seconds),  # a float is as good
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )


class _Server(uvicorn.Server):
    """Listens for gRPC too, if that is wanted.

    It is not ready at once when a signal comes, and takes new connections a little longer.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._grpc: GrpcServer | None = None
        self.failed = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen to HTTP, then to gRPC if that is wanted."""
        await super().startup(sockets)
        settings = self._service.settings
        if self.started and settings.ui:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            logger.info("the console is at http://%s:%d/ui", f"[{host}]" if ":" in host else host, port)
        if not self.started or settings.grpc_port is None:
            return
        from server.http.grpc.server import GrpcServer  # noqa: PLC0415 (of an extra)

        self._grpc = GrpcServer(self._service, settings.host, settings.grpc_port)
        try:
            await self._grpc.start()
        except RuntimeError as error:  # the port was free a moment ago
            logger.error("--grpc-port %d: %s", settings.grpc_port, error)
            self.failed = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends the wait."""
        wait = 0.0 if self._service.draining.is_set() else self._service.settings.drain_seconds
        self._service.drain()
        if not wait:
            super().handle_exit(sig, frame)
            return
        leave = Timer(wait, super().handle_exit, (sig, frame))
        leave.daemon = True
        leave.start()

    async def on_tick(self, counter: int) -> bool:
        """Leave, too, once a thread that everything needs can't be kept alive."""
        return await super().on_tick(counter) or self._service.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was asked, then end all parts; both together take no longer than `shutdown_seconds`."""
        seconds = self._service.settings.shutdown_seconds
        self._service.closing.begin(seconds)
        give_up = Timer(seconds + _LAST_SECONDS, _give_up)
        give_up.daemon = True
        give_up.start()
        ends = [super().shutdown(sockets)]
        if self._grpc is not None:
            ends.append(self._grpc.stop(seconds))
        await asyncio.gather(*ends)


def _give_up() -> None:
    names = ", ".join(thread.name for thread in threading.enumerate() if not thread.daemon)
    logger.critical("the process did not end in time and leaves threads behind that hang: %s", names)
    logging.shutdown()
    os._exit(_FAILED)


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _complain(prog: str, problems: str, code: int) -> int:
    for problem in problems.splitlines():
        print(f"{prog}: {problem}", file=sys.stderr)
    return code
