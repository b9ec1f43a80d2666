"""gRPC server: listens beside the HTTP server, in the same event loop, and ends with it."""

import logging

import grpc

from server.http.grpc.calls import handled
from server.http.grpc.messages import SERVICE, methods
from server.http.grpc.methods import METHODS
from server.service import Service

logger = logging.getLogger(__name__)

_MOST_CALLS = 4096
_KEEP_ALIVE_MS = 75_000


class GrpcServer:
    """Start it in the event loop that serves HTTP, and stop it there."""

    def __init__(self, service: Service, host: str, port: int) -> None:
        """Answer by `service`, on an address; port 0 takes a free one."""
        self._service = service
        self._host, self._port = host, port
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Listen.

        Returns:
            The port.

        Raises:
            RuntimeError: The address can't be listened on.
        """
        most = self._service.settings.max_body_bytes
        options = {
            "grpc.max_receive_message_length": most,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,  # a port that is taken is an error
            "grpc.keepalive_time_ms": _KEEP_ALIVE_MS,
        }
        server = grpc.aio.server(options=tuple(options.items()), maximum_concurrent_rpcs=_MOST_CALLS)
        server.add_generic_rpc_handlers((_handlers(self._service),))
        host = f"[{self._host}]" if ":" in self._host else self._host
        port: int = server.add_insecure_port(f"{host}:{self._port}")
        await server.start()
        self._server = server
        logger.info("Open Inference Protocol over gRPC on %s:%d", host, port)
        return port

    async def stop(self, seconds: float) -> None:
        """Take no more calls; those that go on have `seconds` to end."""
        if self._server is not None:
            await self._server.stop(seconds)


def _handlers(service: Service) -> grpc.GenericRpcHandler:
    made = {}
    for name, (request, response) in methods().items():
        method, access = METHODS[name]
        made[name] = grpc.unary_unary_rpc_method_handler(
            handled(name, request, method, access, service), None, response.SerializeToString
        )
    return grpc.method_handlers_generic_handler(SERVICE, made)
