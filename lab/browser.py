"""Browser: a Chromium of this machine without a window, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.extras import need

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (  # as root in a container, and without asking anything of the network by itself
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """Return the path of a Chromium: the one that the variable CHROMIUM names, or one of the system."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def open_browser(chromium: str) -> "Iterator[Browser]":
    """Start a browser, and stop it at the end.

    Args:
        chromium: Path of the program.

    Raises:
        MissingExtraError: Playwright is not installed.
    """
    playwright = need("playwright.sync_api", "browser")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(_ARGUMENTS))
        yield browser
        browser.close()
