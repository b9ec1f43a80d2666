"""Application: routes, error replies and the life of the service behind them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from masking import TaskInputError
from server.daemons import in_daemon
from server.errors import MethodNotAllowedError, ServerError, UnhealthyError
from server.http.admission import AdmissionMiddleware
from server.http.body import BodyLimits, BodyMiddleware
from server.http.compression import CompressionMiddleware
from server.http.error_mapping import error_response, to_server_error
from server.http.middleware import RequestMiddleware, context_of
from server.http.oip import routes as oip
from server.http.openapi import complete_document, methods_of, operation_id
from server.http.routes import (
    admin,
    embed,
    operations,
    predict,
    predict_many,
    rerank,
    tasks,
    traffic,
    versions,
)
from server.http.ui import routes as ui
from server.service import Service

logger = logging.getLogger(__name__)

_BODIES = 64  # whole bodies, by size, of which the rest may be awaited at once
_POLL_SECONDS = 0.05
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_EXPECTED = (ServerError, TaskInputError, ValidationError, RequestValidationError, HTTPException)


def create_app(service: Service, *, start_ready: bool = False) -> FastAPI:
    """Build the application around a service.

    Args:
        service: Built, not started: it is started with the application and closed with it.
        start_ready: Let the application have started only once requests can be answered, for a server that
            does not ask for readiness before it sends them.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            if start_ready:
                await _until_ready(service)
            yield
        finally:
            service.drain()
            await in_daemon("close", service.close)

    app = FastAPIOffline(  # its page /docs loads nothing from elsewhere
        static_url="/docs/assets",
        redoc_url=None,
        title="maskserve",
        version=service.version,
        description=_DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,  # the middleware drops them; a redirect would not know the proxy's address
    )
    app.state.service = service
    admitted = predict.add_to(app)
    app.include_router(predict_many.router)
    app.include_router(rerank.router)
    app.include_router(embed.router)
    app.include_router(tasks.router)
    app.include_router(versions.router)
    app.include_router(traffic.router)
    app.include_router(traffic.changes)
    app.include_router(operations.router)
    app.include_router(admin.router)
    oip.add_to(app)
    if service.settings.ui:
        app.include_router(ui.router)
    for expected in _EXPECTED:
        app.add_exception_handler(expected, _reply_with_error)
    _add_middleware(app, service, admitted)
    complete_document(app, service.settings)
    return app


async def _until_ready(service: Service) -> None:
    """Wait until requests can be answered.

    Raises:
        UnhealthyError: They never will be in this process.
    """
    told = None
    while (reason := service.why_not_ready()) is not None:
        if service.failure is not None:
            raise UnhealthyError(reason)
        if reason != told:
            logger.info("not ready yet: %s", reason)
            told = reason
        await asyncio.sleep(_POLL_SECONDS)


def _add_middleware(app: FastAPI, service: Service, admitted: Mapping[str, APIRoute]) -> None:
    """Add what is around every route; the last one added comes first."""
    settings = service.settings
    size = settings.max_body_bytes
    limits = BodyLimits(size, settings.body_seconds, _BODIES * size, settings.max_body_values)
    app.add_middleware(CompressionMiddleware)
    app.add_middleware(BodyMiddleware, limits=limits)
    app.add_middleware(AdmissionMiddleware, routes=admitted)
    app.add_middleware(RequestMiddleware, recorder=service.recorder, root_path=settings.root_path)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=_METHODS,
            allow_headers=["*"],
            expose_headers=["*"],
        )


async def _reply_with_error(request: Request, error: Exception) -> JSONResponse:
    known, path = to_server_error(error), context_of(request).path
    if isinstance(known, MethodNotAllowedError):  # the router names the methods of one route of the path
        known = MethodNotAllowedError(methods_of(request.app.openapi(), path) or known.allowed)
    return error_response(known, path)


_DESCRIPTION = """Many tasks from one frozen encoder, each task a set of 1-bit masks.

Every reply about a task names the version and the digest of its masks, and the precision, in the headers.
POST /predict/{task} speaks the shapes of Hugging Face and text-embeddings-inference, POST /predict takes rows
of many tasks, the routes of rerank rank documents, those of embed make embeddings, and /v2 is the Open
Inference Protocol."""
