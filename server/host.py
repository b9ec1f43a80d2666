"""Host: what a process needs beside the service, whichever server runs in it; an application for any of them.

`server.process` is our own server. Another one, such as a replica of Ray Serve, takes `build_app`.
"""

import logging
from typing import TYPE_CHECKING

from server.settings import Settings, ignored_variables
from server.telemetry.logging import configure_logs
from server.threads.compute import leave_cores_free
from server.threads.interpreter import share_interpreter

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)


def prepare(settings: Settings) -> None:
    """Set up logs, interpreter and compute threads of this process; to be called before torch is imported."""
    configure_logs(settings)
    share_interpreter()
    if ignored := ignored_variables():
        logger.info("ignored, as set by an orchestrator for a service: %s", ", ".join(ignored))
    logger.info("starting with base %s and store %s", settings.base, settings.store)
    leave_cores_free()


def build_app(settings: Settings) -> "FastAPI":
    """Build the application in a process that is its own, for a server that runs its lifespan.

    The lifespan has begun once requests can be answered. At its end what was admitted is answered.

    Args:
        settings: What the operator set; those of the listener (address, connections) are the server's.

    Returns:
        An ASGI application, its service at ``app.state.service``.

    Raises:
        MaskingError: The base can't be loaded.
        MaskStoreError: There is no store, or it can't be read.
        SettingsError: A setting that this machine can't fulfil.
    """
    prepare(settings)
    from server.build import build_service  # noqa: PLC0415 (torch, after the threads' settings)
    from server.http.app import create_app  # noqa: PLC0415 (the extra)

    return create_app(build_service(settings, own_process=True), start_ready=True)
