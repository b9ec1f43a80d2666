"""The page in a browser: readable by everyone, nothing wider than the screen, nothing loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from lab.browser import find_chromium, open_browser
from tests.training.page.test_page import compared, report, write
from training.page.page import run_page
from training.page.record import read_run, write_comparison

pytest.importorskip("playwright", reason="needs playwright: pip install 'maskserve[browser]'")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser").Axe

from playwright.sync_api import Browser, ConsoleMessage, Request  # noqa: E402

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with open_browser(CHROMIUM) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write(tmp_path_factory.mktemp("runs") / "questions", report())
    runs = [compared("mask", 1, 0.7, 0.8), compared("finetune", 1, 0.8, 0.85)]
    write_comparison(run.with_name("questions-compare"), runs)
    path = run / "report.html"
    path.write_text(run_page(read_run(run)), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_accessible_in_every_width_and_colour(
    browser: Browser, page: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    loaded: list[str] = []

    def note(request: Request) -> None:
        loaded.append(request.url)

    def complain(message: ConsoleMessage) -> None:
        loaded.append(message.text)

    shown = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    shown.on("request", note)
    shown.on("console", complain)
    shown.goto(page.as_uri())
    assert loaded == [page.as_uri()]
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(shown).response["violations"]
    shown.close()
    assert not found, [(one["id"], one["nodes"][0]["html"]) for one in found]
