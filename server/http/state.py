"""State of the application, as its requests find it."""

from starlette.requests import Request

from server.service import Service


def service_of(request: Request) -> Service:
    """Return the service of this application."""
    service: Service = request.app.state.service
    return service
