"""Server process: load the base, open the store, listen, drain at SIGTERM."""

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from threading import Timer
from types import FrameType

import uvicorn

from mask_store import MaskStoreError, StoreNotFoundError
from masking import MaskingError
from server.build import build_service
from server.http.app import create_app
from server.service import Service
from server.settings import Settings, SettingsError
from server.telemetry.logging import configure_logs

logger = logging.getLogger(__name__)

_FAILED = 1
_USAGE = 2
_LITTLE_SECONDS = 5.0
"""How much longer than the setting says a shutdown may take before the process is ended as it is."""


def run(settings: Settings, prog: str) -> int:
    """Build the service and serve.

    Args:
        settings: What the operator set.
        prog: The program's name, for messages.

    Returns:
        The exit code of the process, as `server.__main__.main` describes.
    """
    configure_logs(settings)
    try:
        service = build_service(settings)
    except SettingsError as error:
        return _complain(prog, str(error), _USAGE)
    except StoreNotFoundError as error:
        return _complain(prog, f"{error}; maskserve learn --store makes one", _FAILED)
    except (MaskingError, MaskStoreError) as error:
        return _complain(prog, str(error), _FAILED)
    return serve(service, settings)


def serve(service: Service, settings: Settings) -> int:
    """Serve until a signal comes; requests in flight are answered first.

    Returns:
        The exit code of the process: 0 after a signal, 1 if it could not listen.
    """
    config = uvicorn.Config(
        create_app(service),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = _Server(config, service)
    _spare_collections()
    # uvicorn drains at SIGTERM and then raises the signal again, for the handler that was there before it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        server.run()
    except SystemExit as leaving:  # by `_leave`, or uvicorn's own code where it could not start
        failed = bool(leaving.code)
    else:
        failed = not server.started
    if service.failure is not None:
        logger.critical("ended with exit code %d: %s", _FAILED, service.failure)
    return _FAILED if failed or service.failure is not None else 0


class _Server(uvicorn.Server):
    """Is not ready at once when a signal comes, and takes new connections a little longer."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends the wait."""
        wait = 0.0 if self._service.draining.is_set() else self._service.settings.drain_seconds
        self._service.drain()
        if not wait:
            super().handle_exit(sig, frame)
            return
        _start_timer(wait, super().handle_exit, sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Leave, too, once a thread that everything needs can't be kept alive."""
        return await super().on_tick(counter) or self._service.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in flight and stop the service; the process ends in time, whatever hangs."""
        seconds = self._service.settings.shutdown_seconds
        self._service.stop_by = time.monotonic() + seconds
        _start_timer(seconds + _LITTLE_SECONDS, _end_process, self._service)
        await super().shutdown(sockets)


def _start_timer(seconds: float, work: Callable[..., None], *args: object) -> None:
    timer = Timer(seconds, work, args)
    timer.daemon = True
    timer.start()


def _end_process(service: Service) -> None:
    """End the process although something in it hangs."""
    names = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    logger.error("the shutdown did not end in time; the process ends without %s", ", ".join(names))
    logging.shutdown()
    os._exit(0 if service.failure is None else _FAILED)


def _spare_collections() -> None:
    """Take what lives as long as the process out of the garbage collector's sight.

    The libraries have hundreds of thousands of objects, and each full collection would stop all threads for
    as long as it takes to look at them.
    """
    gc.collect()
    gc.freeze()


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _complain(prog: str, problems: str, code: int) -> int:
    for problem in problems.splitlines():
        print(f"{prog}: {problem}", file=sys.stderr)
    return code
