"""Server process: load the base, open the store, listen, drain at SIGTERM."""

import gc
import signal
import sys
from threading import Timer
from types import FrameType

import uvicorn

from mask_store import MaskStoreError, StoreNotFoundError
from masking import MaskingError
from server.build import build_service
from server.http.app import create_app
from server.service import Service
from server.settings import Settings, SettingsError

_FAILED = 1
_USAGE = 2


def run(settings: Settings, prog: str) -> int:
    """Build the service and serve.

    Args:
        settings: What the operator set.
        prog: The program's name, for messages.

    Returns:
        The exit code of the process, as `server.__main__.main` describes.
    """
    try:
        service = build_service(settings)
    except SettingsError as error:
        return _complain(prog, str(error), _USAGE)
    except StoreNotFoundError as error:
        return _complain(prog, f"{error}; --create-store makes an empty one", _FAILED)
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
        return _FAILED if leaving.code else 0
    return 0 if server.started else _FAILED


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
        leave = Timer(wait, super().handle_exit, (sig, frame))
        leave.daemon = True
        leave.start()


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
