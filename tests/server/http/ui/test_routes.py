import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from masking import Base
from server.http.ui.assets import assets, release
from tests.support.serving import fill, serving

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PREFIX = "/nlp/v1"


@pytest.fixture(scope="module")
def store(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    fill(place, base, ["sentiment"])
    return place


@pytest.fixture(scope="module")
def client(base: Base, store: Path) -> Iterator[TestClient]:
    with serving(base, store, api_keys=["a-key"]) as client:
        yield client


@pytest.fixture(scope="module")
def prefixed(base: Base, store: Path) -> Iterator[TestClient]:
    with serving(base, store, root_path=PREFIX) as client:
        yield client


@pytest.mark.parametrize("path", ["/ui", *(f"/ui/{name}" for name in assets())])
def test_a_file_comes_with_its_type_a_strict_policy_and_without_a_key(client: TestClient, path: str) -> None:
    reply = client.get(path)
    asset = assets()[path.removeprefix("/ui").lstrip("/") or "index.html"]
    assert (reply.status_code, reply.content) == (200, asset.content)
    assert reply.headers["content-type"] == asset.media_type
    assert reply.headers["x-content-type-options"] == "nosniff"
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_what_a_browser_has_already_is_not_sent_again(client: TestClient, encoding: str) -> None:
    headers = {"accept-encoding": encoding}
    first = client.get("/ui/main.js", headers=headers)
    assert (first.headers.get("content-encoding") == "gzip") == (encoding == "gzip")
    assert (first.headers["cache-control"], first.headers["vary"]) == ("no-cache", "Accept-Encoding")
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = client.get("/ui/main.js", headers={**headers, "if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    changed = client.get("/ui/main.js", headers={**headers, "if-none-match": '"older"'})
    assert changed.status_code == 200
    assert changed.content == assets()["main.js"].content


def test_files_of_a_release_are_kept_for_good(client: TestClient) -> None:
    page = client.get("/ui").text
    named = re.findall(r'(?:src|href)="(ui/[^"]+)"', page)
    assert all(address.startswith(f"ui/{release()}") for address in named)
    for address in named:
        reply = client.get(f"/{address}")
        assert reply.content == assets()[address.removeprefix(f"ui/{release()}")].content
        assert "immutable" in reply.headers["cache-control"]
    older = client.get(f"/ui/{'0' * 16}/main.js")  # a page that another replica sent
    assert (older.content, older.headers["cache-control"]) == (assets()["main.js"].content, "no-cache")


def test_forms_of_a_file_have_validators_of_their_own(client: TestClient) -> None:
    tags = {
        client.get("/ui/main.js", headers={"accept-encoding": one}).headers["etag"] for one in ("gzip", "br")
    }
    assert len(tags) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/ui/nothing.js",
        "/ui/../app.py",
        "/ui/%2e%2e/routes.py",
        "/ui/parts",
        "/ui/0123456789abcdef/nothing.js",
    ],
)
def test_there_is_nothing_else_below_the_page(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_browsers_are_led_to_the_page_and_programs_get_the_index(client: TestClient) -> None:
    led = client.get("/", headers=BROWSER, follow_redirects=False)
    assert (led.status_code, led.headers["location"], led.headers["vary"]) == (307, "ui", "Accept")
    assert client.get("/", headers=BROWSER).text.startswith("<!doctype html>")
    for accept in ("*/*", "application/json", ""):
        index = client.get("/", headers={"accept": accept}, follow_redirects=False)
        assert index.json()["console"] == "/ui"
        assert index.headers["vary"] == "Accept"


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_relative_addresses_of_the_page_lead_to_routes(client: TestClient, slashes: str) -> None:
    reply = client.get(f"/ui{slashes}")
    assert reply.url.path == "/ui"
    assert reply.url.join("ui/main.js").path == "/ui/main.js"


def test_it_works_below_a_path_that_a_proxy_cuts_off_or_not(prefixed: TestClient) -> None:
    for path in (f"{PREFIX}/ui", "/ui", f"{PREFIX}/ui/main.js", "/ui/main.js"):
        assert prefixed.get(path).status_code == 200, path
    for path in (f"{PREFIX}/", PREFIX, "/"):
        assert (
            prefixed.get(path, headers=BROWSER, follow_redirects=False).headers["location"] == f"{PREFIX}/ui"
        )
    assert prefixed.get(f"{PREFIX}/ui/").url.path == f"{PREFIX}/ui"


def test_it_can_be_turned_off(base: Base, store: Path) -> None:
    with serving(base, store, ui=False) as client:
        assert client.get("/ui").status_code == client.get("/ui/main.js").status_code == 404
        reply = client.get("/", headers=BROWSER, follow_redirects=False)
        assert (reply.status_code, reply.json()["console"]) == (200, None)
