"""The site of the documentation: it builds without a warning, is whole, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lab.browser import find_chromium, open_browser

ROOT = Path(__file__).parents[2]
PACKAGES = ("maskserve", "masking", "mask_store", "training", "server")
_LOADS = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("material", "mkdocstrings_handlers.python", "black"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return folder


class _Elements(HTMLParser):
    """What a page loads, where it leads, and the places in it that can be led to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag == "a":
            self.links.append(given.get("href", ""))
        elif given.get("rel") not in ("next", "prev", "canonical"):
            self.loads += [given[name] for name in (_LOADS.get(tag),) if name in given]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Elements]:
    return {page: _Elements(page) for page in site.rglob("*.html") if page.name != "404.html"}


def test_every_document_is_a_page_and_every_public_name_is_described(
    site: Path, pages: dict[Path, _Elements]
) -> None:
    for document in (ROOT / "docs").glob("*.md"):
        name = "pages" if document.name == "README.md" else document.stem
        assert site / f"{name}.html" in pages
    assert site / "tutorial.html" in pages
    for package in PACKAGES:
        described = pages[site / "reference" / f"{package}.html"].anchors
        for name in set(import_module(package).__all__) - {"__version__"}:
            assert f"{package}.{name}" in described


def test_pages_load_only_files_of_the_site(pages: dict[Path, _Elements]) -> None:
    for page, elements in pages.items():
        assert elements.loads
        for url in elements.loads:
            parts = urlsplit(url)
            assert not parts.scheme and not parts.netloc, f"{page.name}: {url}"
            assert (page.parent / unquote(parts.path)).is_file(), f"{page.name}: {url}"


def test_links_lead_to_pages_and_places_that_exist(pages: dict[Path, _Elements]) -> None:
    for page, elements in pages.items():
        for url in elements.links:
            parts = urlsplit(url)
            if not parts.scheme and not parts.netloc and url != ".":
                there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
                assert there.is_file(), f"{page.name}: {url}"
                if parts.fragment and there in pages:
                    assert parts.fragment in pages[there].anchors, f"{page.name}: {url}"


@pytest.fixture(scope="module")
def chromium() -> Iterator[str]:
    pytest.importorskip("playwright.sync_api")
    found = find_chromium()
    if found is None:
        pytest.skip("there is no Chromium")
    yield found


def test_pages_open_from_a_disk_fit_a_phone_and_can_be_searched(site: Path, chromium: str) -> None:
    said: list[str] = []
    with open_browser(chromium) as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.extend(re.findall(r"^https?:.*", request.url)))
        for name in ("index", "masking", "operations", "reference/maskserve"):
            page.goto(f"{(site / name).as_uri()}.html")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        page.set_viewport_size({"width": 1280, "height": 800})
        page.locator("input[name=query]").fill("calibration")
        page.locator(".md-search-result__item").first.wait_for()
        page.close()
    assert said == []
