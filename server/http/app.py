"""Application: routes, error replies and the life of the service behind them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from masking import TaskInputError
from server.daemons import in_daemon
from server.errors import ServerError
from server.http.error_mapping import error_response, to_server_error
from server.http.middleware import RequestMiddleware
from server.http.oip import routes as oip
from server.http.openapi import add_components
from server.http.routes import admin, operations, predict, predict_many, tasks
from server.service import Service

_EXPECTED = (ServerError, TaskInputError, ValidationError, RequestValidationError, HTTPException)


def create_app(service: Service) -> FastAPI:
    """Build the application around a service.

    Args:
        service: Built, not started: it is started with the application and closed with it.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await in_daemon("close", service.close)

    app = FastAPI(title="maskserve", version=_version(), description=_DESCRIPTION, lifespan=lifespan)
    app.state.service = service
    predict.add_to(app)
    app.include_router(predict_many.router)
    app.include_router(tasks.router)
    app.include_router(operations.router)
    app.include_router(admin.router)
    oip.add_to(app)
    for expected in _EXPECTED:
        app.add_exception_handler(expected, _reply_with_error)
    app.add_middleware(RequestMiddleware, metrics=service.metrics, tracer=service.tracer)
    add_components(app)
    return app


async def _reply_with_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(to_server_error(error), request.url.path)


def _version() -> str:
    try:
        return version("maskserve")
    except PackageNotFoundError:  # run from a folder that is not installed
        return "0"


_DESCRIPTION = """Many tasks from one frozen encoder, each task a set of 1-bit masks.

Every reply about a task names the version and the digest of its masks in the headers. POST /predict/{task}
speaks the shapes of Hugging Face and text-embeddings-inference, POST /predict takes rows of many tasks, and
/v2 is the Open Inference Protocol."""
