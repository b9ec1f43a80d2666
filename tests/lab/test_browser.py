from pathlib import Path

import pytest

from lab.browser import find_chromium


def test_a_chromium_is_the_one_that_is_named_or_one_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "chromium-browser"
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() is None
    program.touch(mode=0o755)
    assert find_chromium() == str(program)
    monkeypatch.setenv("CHROMIUM", "/opt/browser")
    assert find_chromium() == "/opt/browser"
