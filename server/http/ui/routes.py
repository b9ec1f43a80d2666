"""Console routes: the page and its files.

The page asks the same routes as every other client and shows what they answer, so it is open to all while
they ask for keys. All its addresses are relative, so it works under any path of a proxy.
"""

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from server.errors import RouteNotFoundError
from server.http.compression import accepts_gzip
from server.http.ui.assets import PAGE as PAGE_FILE
from server.http.ui.assets import RELEASE, Asset, assets, release

PAGE = "/ui"
FILE = f"{PAGE}/{{path:path}}"

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "Accept-Encoding",
    "x-content-type-options": "nosniff",
}

_RENEWED = "no-cache"  # kept, but asked for again each time, by its ETag
_FOR_GOOD = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@router.get(PAGE)
async def page(request: Request) -> Response:
    """Return the page; redirect from a path with a slash at its end, where relative addresses are wrong."""
    path: bytes = request.scope.get("raw_path") or b""
    slashes = len(path) - len(path.rstrip(b"/"))
    return RedirectResponse("../" * slashes + "ui") if slashes else _reply(request, assets()[PAGE_FILE])


@router.get(FILE)
async def file(request: Request, path: str) -> Response:
    """Return one of its files; a page of another release gets this one's, too, but not for good."""
    named = RELEASE.match(path)
    asset = assets().get(path[named.end() :] if named else path)
    if asset is None:
        raise RouteNotFoundError
    return _reply(request, asset, _FOR_GOOD if named and named[0] == release() else _RENEWED)


def wants_page(request: Request) -> bool:
    """Return whether the client is a browser that opens an address, and not a program that calls a route."""
    accepted = ",".join(request.headers.getlist("accept")).split(",")
    return any(part.partition(";")[0].strip().lower() == "text/html" for part in accepted)


def redirect(request: Request) -> Response:
    """Lead from / to the page; relative to an address that ends with a slash, unless the path is known."""
    root_path = request.scope.get("root_path", "")
    return RedirectResponse(f"{root_path}{PAGE}" if root_path else PAGE[1:], headers={"vary": "Accept"})


def _reply(request: Request, asset: Asset, cache: str = _RENEWED) -> Response:
    packed = accepts_gzip(request.headers.getlist("accept-encoding"))
    etag = asset.packed_etag if packed else asset.etag
    headers = {**_HEADERS, "cache-control": cache, "etag": etag}
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    if packed:
        headers["content-encoding"] = "gzip"
    return Response(asset.packed if packed else asset.content, media_type=asset.media_type, headers=headers)


def _matches(known: str, etag: str) -> bool:
    names = [name.strip().removeprefix("W/") for name in known.split(",")]
    return etag in names or names == ["*"]
