import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from server.http.ui.assets import assets

STATIC = Path(__file__).parents[4] / "server" / "http" / "ui" / "static"
FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())
SCRIPTS = [name for name in FILES if name.endswith(".js")]
HEAVIEST = 200_000


def test_every_file_is_served_and_all_of_them_are_light() -> None:
    assert sorted(assets()) == FILES
    assert sum(len(asset.content) for asset in assets().values()) < HEAVIEST


def test_a_wheel_carries_every_file() -> None:
    project = tomllib.loads((STATIC.parents[3] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["server.http.ui"]
    depths = {pattern.count("/") for pattern in patterns}
    for name in FILES:
        path = f"static/{name}"
        assert path.count("/") in depths
        assert any(fnmatch(path, pattern) for pattern in patterns), path


def test_the_page_names_every_script_before_it_is_asked_for() -> None:
    page = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:src|href)="ui/([^"]+)"', page)
    assert set(named) >= set(SCRIPTS)
    assert set(named) <= set(FILES)


def test_the_page_has_no_script_or_style_in_itself() -> None:
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script[^>]*>[^<]|<style|\sstyle=|\son\w+=", page) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_no_markup_of_texts_and_loads_nothing_from_elsewhere(name: str) -> None:
    text = (STATIC / name).read_text()
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    )
    assert re.findall(forbidden, text) == []
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    for imported in re.findall(r'from "([^"]+)"', text):
        found = (STATIC / name).parent.joinpath(PurePosixPath(imported)).resolve()
        assert found.is_relative_to(STATIC)
        assert found.is_file(), imported
