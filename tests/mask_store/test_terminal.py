import os
import subprocess
import sys

import pytest

CODE = """
from mask_store.terminal import escape_missing_letters
escape_missing_letters()
print("Zürich 北京 \\ud83d")
"""


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "Z\\xfcrich \\u5317\\u4eac \\ud83d"),
        ("latin-1", "Zürich \\u5317\\u4eac \\ud83d"),
        ("utf-8", "Zürich 北京 \\ud83d"),
    ],
)
def test_letters_that_a_terminal_lacks_are_shown_as_escapes(encoding: str, shown: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=True)
    assert done.stdout.decode(encoding).strip() == shown
