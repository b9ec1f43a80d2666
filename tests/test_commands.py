"""Every command answers --help and a wrong command line without the libraries that take seconds to import."""

import subprocess
import sys

import pytest

COMMANDS = [
    "maskserve",
    *(
        f"maskserve {name}"
        for name in (
            "serve",
            "learn",
            "search",
            "compare",
            "evaluate",
            "predict",
            "store",
            "keys",
            "doctor",
            "demo",
        )
    ),
    "server",
    "server.tenants",
    "training.learn_mask",
    "training.search",
    "training.compare",
    "training.evaluate",
    "training.predict",
    "mask_store",
    "benchmarks",
    "experiments",
    "demo",
]
_RUN = """
import runpy, sys
module, *arguments = sys.argv[1:]
for option in "--help", "--no-such-option":
    sys.argv = [module, *arguments, option]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        loaded = {"torch", "transformers", "numpy", "fastapi", "uvicorn"} & {*sys.modules}
        print("ended:", ended.code, *loaded, file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_a_wrong_option_need_no_torch(command: str) -> None:
    line = [sys.executable, "-c", _RUN, *command.split()]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stderr.splitlines()
    assert [line for line in said if line.startswith("ended:")] == ["ended: 0", "ended: 2"]
    assert said[-1] == "ended: 2"
