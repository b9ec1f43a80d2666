"""Request line: what clients and proxies write in several ways, in the one way that the routes know.

HEAD is GET whose reply has no body, a slash at the end of a path says nothing, and a proxy that serves this
server under a path may cut that path off or leave it.
"""

from starlette.types import Message, Scope, Send


def route_path(scope: Scope, root_path: str) -> str:
    """Return the path of a request as routes have it: below `root_path`, without a slash at its end."""
    path: str = scope["path"]
    if path == root_path or path.startswith(f"{root_path}/"):
        path = path[len(root_path) :]
    return path.rstrip("/") or "/"


def as_routed(scope: Scope, path: str, root_path: str) -> Scope:
    """Return the scope of the request that the routes are to see.

    Args:
        scope: What the server made of the request.
        path: See `route_path`.
        root_path: Where the proxy serves this server.
    """
    if scope["method"] != "HEAD" and not root_path and scope["path"] == path:
        return scope
    whole = root_path + path
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return {**scope, "method": method, "path": whole, "root_path": root_path}


def without_body(send: Send) -> Send:
    """Return a `send` that leaves out the body of the reply."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
