"""The page in a browser: readable by everyone, nothing wider than the screen, nothing loaded."""

from pathlib import Path

import pytest

from lab.browser import find_chromium, open_browser
from tests.training.page.test_page import compared, report, write
from training.page.page import run_page
from training.page.record import read_run, write_comparison

Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser").Axe
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write(tmp_path_factory.mktemp("runs") / "questions", report())
    runs = [compared("mask", 1, 0.7, 0.8), compared("finetune", 1, 0.8, 0.85)]
    write_comparison(run.with_name("questions-compare"), runs)
    path = run / "report.html"
    path.write_text(run_page(read_run(run)), encoding="utf-8")
    return path


def test_it_is_accessible_in_every_width_and_colour(page: Path) -> None:
    assert CHROMIUM is not None
    with open_browser(CHROMIUM) as browser:
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                context = browser.new_context(
                    color_scheme="dark" if scheme == "dark" else "light",
                    viewport={"width": width, "height": 900},
                )
                shown = context.new_page()
                loaded: list[str] = []
                shown.on("request", lambda request, loaded=loaded: loaded.append(request.url))
                shown.on("console", lambda message, loaded=loaded: loaded.append(message.text))
                shown.goto(page.as_uri())
                assert loaded == [page.as_uri()]
                assert shown.evaluate("document.documentElement.scrollWidth") == width
                found = Axe().run(shown).response["violations"]
                assert not found, [(one["id"], one["nodes"][0]["html"]) for one in found]
                context.close()
