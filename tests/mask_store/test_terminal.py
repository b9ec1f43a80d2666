import os
import subprocess
import sys

import pytest

from mask_store.terminal import CommandParser

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


def test_a_mistake_in_a_command_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="tool")
    parser.add_subparsers(required=True).add_parser("go").add_argument("--far", type=int)
    for arguments in ([], ["stay"], ["go", "--far", "x"], ["go", "--near"]):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(arguments)
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("tool")
        assert line.endswith("--help lists what there is")
