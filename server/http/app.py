"""The application: routes, error replies and the life of the service behind them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from masking import TaskInputError
from server.errors import ServerError, to_server_error
from server.http import admin as routes_admin
from server.http import predict as routes_predict
from server.http import predict_many as routes_bulk
from server.http import tasks as routes_tasks
from server.http.auth import require_client
from server.http.middleware import Observer, error_response
from server.http.oip import routes as routes_oip
from server.http.schemas import COMPONENTS
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
            await run_in_threadpool(service.close)

    app = FastAPI(title="maskserve", version=_version(), description=_DESCRIPTION, lifespan=lifespan)
    app.state.service = service
    for_clients = [Depends(require_client)]
    app.router.routes.append(routes_predict.fast_route)
    app.include_router(routes_predict.router, dependencies=for_clients)
    app.include_router(routes_bulk.router, dependencies=for_clients)
    app.include_router(routes_tasks.router)
    app.include_router(routes_admin.router)
    routes_oip.add_to(app)
    for expected in _EXPECTED:
        app.add_exception_handler(expected, _reply_with_error)
    app.add_middleware(Observer, metrics=service.metrics, tracer=service.tracer)
    _add_schemas(app)
    return app


async def _reply_with_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(to_server_error(error), request.url.path)


def _add_schemas(app: FastAPI) -> None:
    """Let the OpenAPI document know the bodies that routes read by themselves."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(COMPONENTS)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _version() -> str:
    try:
        return version("maskserve")
    except PackageNotFoundError:  # run from a folder that is not installed
        return "0"


_DESCRIPTION = """Many tasks from one frozen encoder, each task a set of 1-bit masks.

Every reply about a task names the version and the digest of its masks in the headers. POST /predict/{task}
speaks the shapes of Hugging Face and text-embeddings-inference, POST /predict takes rows of many tasks, and
/v2 is the Open Inference Protocol."""
