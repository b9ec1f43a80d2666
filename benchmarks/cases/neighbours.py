"""The server among neighbours: quiet, beside a busy loop on each core, and with one CPU to itself.

For each way in which OpenMP threads wait between parallel regions: answers per second, median and 90th
percentile of one client and of many. ``passive`` is the server's own choice, ``short`` spins 10,000 times
before it sleeps, ``active`` spins, ``libgomp`` is what GNU OpenMP does where nothing is set. The server is
`python -m server` with the defaults of all settings but the precision; clients run beside it and take their
share of the cores too.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.cases.serving import ZEROS, Requests, bodies, load_http
from benchmarks.measure.load import Load
from benchmarks.peers.ours import cpu_precision
from lab.random_models import add_model_arguments, describe_model, save_random_base
from lab.random_tasks import random_bundle
from lab.server_process import server_command, start_server
from lab.tables import markdown_table, write_report
from mask_store import MaskStore
from masking import load_base

POLICIES: Mapping[str, Mapping[str, str]] = {
    "passive": {},
    "short": {"GOMP_SPINCOUNT": "10000"},
    "active": {"OMP_WAIT_POLICY": "active"},
    "libgomp": {"GOMP_SPINCOUNT": "300000"},
}
QUIET, BUSY = "quiet", "a busy loop on each core"
QUOTA = "a quota of one CPU"
ONE_CORE = "one core (taskset, in place of a quota: no control group can be made here)"
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
_PERIOD_MICROSECONDS = 100_000
_WARM_SECONDS = 1.0


@dataclass(frozen=True)
class Result:
    """What clients saw, medians over rounds.

    Attributes:
        neighbours: What the server shares the machine with.
        policy: How OpenMP threads wait.
        clients: Clients, each with one request at a time.
        rate: Answers per second.
        p50_ms: Median milliseconds of an answer.
        p90_ms: Milliseconds in which nine of ten are there.
    """

    neighbours: str
    policy: str
    clients: int
    rate: float
    p50_ms: float
    p90_ms: float


@contextmanager
def busy_loops() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run a process that does nothing but compute, for each core that may be used."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield loops
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def one_cpu(root: Path = Path("/sys/fs/cgroup")) -> Iterator[tuple[str, list[str]]]:
    """Limit a process to one CPU: the limit's name, and what stands before the process's command line.

    Args:
        root: Where control groups are mounted; cgroup v2, or v1 with its folder ``cpu``.
    """
    group = (root / "cpu" if (root / "cpu").is_dir() else root) / f"neighbours-{os.getpid()}"
    try:
        _make_group(group)
    except OSError:
        if group.is_dir():
            group.rmdir()
        yield ONE_CORE, ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
        return
    try:
        yield QUOTA, ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
    finally:
        group.rmdir()


def _make_group(group: Path) -> None:
    group.mkdir()
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
        (group / "cpu.cfs_quota_us").write_text(str(_PERIOD_MICROSECONDS))
    elif (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{_PERIOD_MICROSECONDS} {_PERIOD_MICROSECONDS}")
    else:
        raise FileNotFoundError(f"{group}: no CPU controller")


def measure(
    command: Sequence[str], requests: Requests, log: Path, arguments: argparse.Namespace
) -> list[Result]:
    """Measure every policy with every neighbour; the servers run one after another.

    Args:
        command: Command line of the server.
        requests: What clients send.
        log: File for the server's log.
        arguments: The benchmark's own.
    """
    results: list[Result] = []
    for policy in arguments.policies:
        environment = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
        environment |= POLICIES[policy]
        with start_server(command, log, environment=environment) as server:
            results += _of_server(server.url, QUIET, policy, requests, arguments)
            with busy_loops():
                results += _of_server(server.url, BUSY, policy, requests, arguments)
        with (
            one_cpu() as (limit, before),
            start_server([*before, *command], log, environment=environment) as server,
        ):
            results += _of_server(server.url, limit, policy, requests, arguments)
    return results


def _of_server(
    url: str, neighbours: str, policy: str, requests: Requests, arguments: argparse.Namespace
) -> Iterator[Result]:
    for clients in (1, arguments.clients):
        asyncio.run(load_http(url, requests, clients, min(_WARM_SECONDS, arguments.seconds)))
        loads: list[Load] = [
            asyncio.run(load_http(url, requests, clients, arguments.seconds)) for _ in range(arguments.rounds)
        ]
        yield Result(
            neighbours,
            policy,
            clients,
            rate=median(one.rate for one in loads),
            p50_ms=1e3 * median(one.p50 for one in loads),
            p90_ms=1e3 * median(one.p90 for one in loads),
        )


def table(results: Sequence[Result]) -> str:
    """Write everything as Markdown; rates are over those of the first policy, quiet, with as many clients."""
    quiet = {one.clients: one.rate for one in reversed(results) if one.neighbours == QUIET}
    rows = [
        [
            one.neighbours,
            one.policy,
            str(one.clients),
            f"{one.rate / quiet[one.clients]:.2f}",
            f"{one.rate:.0f}",
            f"{one.p50_ms:.2f}",
            f"{one.p90_ms:.2f}",
        ]
        for one in sorted(results, key=lambda one: [one.neighbours != QUIET, one.neighbours, one.clients])
    ]
    first = results[0].policy
    titles = ["neighbours", "threads wait", "clients", f"rate over {first}, quiet"]
    return markdown_table([*titles, "answers/s", "p50 ms", "p90 ms"], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this benchmark."""
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_model_arguments(parser)
    parser.set_defaults(shape="minilm")
    parser.add_argument("--tasks", type=int, default=4, help="tasks in the mix")
    parser.add_argument("--precision", type=cpu_precision, default="fp32", help="of the server (fp32)")
    parser.add_argument("--clients", type=int, default=16, help="concurrent clients, besides one alone")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind")
    parser.add_argument(
        "--policies",
        nargs="+",
        choices=POLICIES,
        default=["passive", "active"],
        help="how OpenMP threads wait",
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure everything, print the table, write the JSON."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        if arguments.base is None:
            save_random_base(arguments.shape, folder / "base")
        base = load_base(arguments.base or str(folder / "base"))
        tasks = [f"task-{number}" for number in range(arguments.tasks)]
        store = MaskStore.open(folder / "store", create=True)
        for number, task in enumerate(tasks):
            store.publish(random_bundle(base, task, ZEROS, number))
        options = ["--base", arguments.base or folder / "base", "--store", folder / "store"]
        options += ["--device", "cpu", "--precision", arguments.precision]
        command = server_command(*options, "--port", 0)
        results = measure(command, bodies(base, tasks), folder / "log", arguments)
        model = describe_model(base, arguments)
    print(table(results))
    facts = {"model": model, "precision": arguments.precision, "tasks": arguments.tasks}
    write_report(arguments, "neighbours", **facts, results=[asdict(one) for one in results])
    return 0
