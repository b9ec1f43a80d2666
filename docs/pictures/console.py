"""Pictures of the console: `python -m docs.pictures.console` writes them beside this file.

They show the tasks of `make demo`, which have to be served at --url (`make demo` ends with the command).
Needs a Chromium and `pip install -e '.[browser]'`.
"""

import argparse
import io
import sys
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser

from demo.__main__ import REQUESTS
from lab.browser import find_chromium, open_browser

HERE = Path(__file__).parent
TASK = "entities"
TEXT = "Sofia Petrov from San Diego asked for the desk fan on Friday"
WIDTH = 1280
HEIGHTS = {"console-tasks.png": 650, "console-task.png": 900}
COLORS = 128  # of the palette; a page is flat
ASKED = 40


def main() -> int:
    """Take the pictures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    url = parser.parse_args().url
    chromium = find_chromium()
    if chromium is None:
        print("there is no Chromium: install one, or name it by CHROMIUM", file=sys.stderr)
        return 2
    with httpx.Client(base_url=url) as client:  # so that there is something to see
        for _ in range(ASKED):
            for task, body in REQUESTS.items():
                client.post(f"/predict/{task}", json=body).raise_for_status()
    with open_browser(chromium) as browser:
        for name, height in HEIGHTS.items():
            Image.open(io.BytesIO(_taken(browser, url, name, height))).convert("RGB").quantize(COLORS).save(
                HERE / name, optimize=True
            )
    return 0


def _taken(browser: Browser, url: str, name: str, height: int) -> bytes:
    page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
    if name == "console-task.png":
        page.goto(f"{url}/ui#/tasks/{TASK}")
        page.get_by_label("Text", exact=True).fill(TEXT)
        page.get_by_role("button", name="Predict").click()
        page.locator(".timing").wait_for()
        page.locator("table.versions").wait_for()
        page.locator("h1").click()  # no button is pointed at
    else:
        page.goto(f"{url}/ui")
        page.locator("table.tasks").wait_for()
    return page.screenshot()


if __name__ == "__main__":
    sys.exit(main())
