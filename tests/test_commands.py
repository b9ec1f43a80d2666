"""Every command answers --help and a wrong command line without the libraries that take seconds to import."""

import subprocess
import sys

import pytest

COMMANDS = [
    "maskserve",
    *(f"maskserve {name}" for name in ("serve", "learn", "search", "compare", "store", "demo")),
    "server",
    "training.learn_mask",
    "training.search",
    "training.compare",
    "mask_store",
    "benchmarks",
    "experiments",
    "demo",
]
_RUN = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as ended:
    loaded = {"torch", "transformers", "numpy", "fastapi", "uvicorn"} & {*sys.modules}
    print(ended.code, *loaded, file=sys.stderr)
"""


def _last_line(command: str, *arguments: str) -> str:
    line = [sys.executable, "-c", _RUN, *command.split(), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True).stderr.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_torch(command: str) -> None:
    assert _last_line(command, "--help") == "0"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_option_needs_no_torch(command: str) -> None:
    assert _last_line(command, "--no-such-option") == "2"
