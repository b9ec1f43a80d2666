"""A store on S3: two servers follow it, and serve on while it refuses connections or hangs.

Needs `pip install 's3fs' 'moto[server]'`: moto's server speaks S3's protocol on this machine.
"""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import fsspec
import httpx
import pytest

from lab.server_process import ServerProcess, server_command, start_server
from masking import Base, load_task
from tests.server.whole.s3_endpoint import BUCKET, S3, s3_endpoint
from tests.support.serving import EXACT, ROOT, TEXT, bundle_of, fill, wait_until

MISSING = [name for name in ("s3fs", "moto", "flask") if importlib.util.find_spec(name) is None]
AWAY_SECONDS = 30.0
STORE = f"s3://{BUCKET}/store"
TASKS = ("sentiment", "names", "topics", "rating")
KEY = "admin"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3]:
    with s3_endpoint(tmp_path) as endpoint:
        for name, value in endpoint.environment.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # it may know the endpoint of another test
        yield endpoint


@contextmanager
def servers(base: str, folders: Sequence[Path], *others: object) -> Iterator[list[ServerProcess]]:
    """A ready server for each folder, where it logs and keeps copies of bundles."""
    options = ["--base", base, "--store", STORE, "--port", 0, "--device", "cpu", "--threads", "1", *others]
    command = server_command(*options, "--poll-seconds", "0.2", "--precision", EXACT, "--log-level", "info")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASKSERVE_ADMIN_KEY": KEY, "HF_HUB_OFFLINE": "1"}
    with ExitStack() as stack:
        started = []
        for folder in folders:
            folder.mkdir(exist_ok=True)
            own = [*command, "--cache-dir", str(folder / "cache")]
            start = start_server(own, folder / "log", folder=ROOT, environment=environment)
            started.append(stack.enter_context(start))
        yield started


def change_store(*arguments: object, place: Path | str = STORE) -> None:
    """Run `maskserve store` as an operator does."""
    command = [sys.executable, "-m", "maskserve", "store", "--store", str(place), *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True)


def order(server: ServerProcess, method: str, path: str, **body: object) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    reply = httpx.request(method, f"{server.url}/tasks/sentiment/{path}", json=body, headers=headers)
    assert reply.status_code == 200, reply.text


def ask(server: ServerProcess, task: str = "sentiment") -> httpx.Response:
    return httpx.post(f"{server.url}/predict/{task}", json={"inputs": TEXT}, timeout=10)


def version_of(server: ServerProcess) -> str | None:
    """The version that answers; None if the task is not in service."""
    reply = ask(server)
    assert reply.status_code in (200, 503), reply.text
    return reply.headers["x-task-version"] if reply.status_code == 200 else None


def versions_of(server: ServerProcess) -> set[str | None]:
    """The versions that answer some requests in a row."""
    return {version_of(server) for _ in range(8)}


def seconds_until(condition: Callable[[], bool], seconds: float = 20) -> float:
    started = time.monotonic()
    wait_until(condition, seconds)
    return time.monotonic() - started


def follow(servers: list[ServerProcess], *versions: str | None, seconds: float = 20) -> float:
    """Wait until these versions answer, on all servers, and no others."""
    return seconds_until(lambda: all(versions_of(one) == set(versions) for one in servers), seconds)


def store_up(server: ServerProcess) -> bool:
    return "maskserve_store_up 1.0" in httpx.get(f"{server.url}/metrics", timeout=10).text


def test_what_is_ordered_is_followed(s3: S3, tiny_bert: str, base: Base, tmp_path: Path) -> None:
    local = fill(tmp_path / "local", base, ["sentiment"])
    for seed in (1, 2):
        local.publish(bundle_of(base, "sentiment", seed=seed))

    def publish(number: int, *options: str) -> None:
        change_store("copy", f"sentiment@{number}", "--to", STORE, *options, place=tmp_path / "local")

    publish(1, "--create")
    with servers(tiny_bert, [tmp_path / "one", tmp_path / "two"]) as both:
        one, other = both
        follow(both, "1")
        publish(2)
        print(f"\npublished, followed in {follow(both, '2'):.1f} s")
        order(one, "PUT", "traffic", weights={"1": 50, "2": 50})
        assert versions_of(one) == {"1", "2"}
        print(f"traffic, followed in {follow([other], '1', '2'):.1f} s")
        order(other, "POST", "traffic/promote", version=2)
        print(f"promoted, followed in {follow([one], '2'):.1f} s")
        order(one, "POST", "rollback", version=1)
        print(f"rolled back, followed in {follow([other], '1'):.1f} s")

        change_store("pin", "sentiment", "--version", 2)
        print(f"pinned, followed in {follow(both, '2'):.1f} s")
        publish(3)
        with servers(tiny_bert, [tmp_path / "three"]) as later:  # which looks after that
            assert [versions_of(server) for server in (*later, *both)] == [{"2"}] * 3
        change_store("unload", "sentiment")
        print(f"unloaded, followed in {follow(both, None):.1f} s")
        change_store("release", "sentiment")
        print(f"released, followed in {follow(both, '3'):.1f} s")


@pytest.mark.parametrize("away", ["refuses", "hangs"])
def test_two_servers_outlive_a_store_that_is_away(
    s3: S3, tiny_bert: str, base: Base, tmp_path: Path, away: str
) -> None:
    store = fill(STORE, base, TASKS)
    room = 2 * load_task(bundle_of(base, TASKS[0]), base).nbytes
    with servers(tiny_bert, [tmp_path / "one", tmp_path / "two"], "--mask-memory", room) as both:
        assert [version_of(server) for server in both] == ["1", "1"]

        s3.leave(away)
        left, slowest, cold = time.monotonic(), 0.0, 0
        told: float | None = None
        while time.monotonic() < left + AWAY_SECONDS:
            for server in both:
                for task in TASKS:
                    begun = time.monotonic()
                    reply = ask(server, task)
                    assert (reply.status_code, reply.headers["x-task-version"]) == (200, "1"), reply.text
                    slowest = max(slowest, time.monotonic() - begun)
                    cold += "x-mask-load-time" in reply.headers
            if told is None and not any(store_up(server) for server in both):
                told = time.monotonic() - left
            time.sleep(0.1)
        assert told is not None
        assert cold > len(TASKS)
        assert all(httpx.get(f"{server.url}/health/ready").status_code == 200 for server in both)
        assert not any(store_up(server) for server in both)
        read = s3.bundles_read()

        s3.come_back(away)
        store.publish(bundle_of(base, "sentiment", seed=1))
        caught_up = follow(both, "2", seconds=60)
        assert all(store_up(server) for server in both)
        assert s3.bundles_read() == read + len(both)
    print(
        f"\nnot up after {told:.1f} s; slowest answer {slowest:.2f} s, {cold} from copies on disk; caught up "
        f"in {caught_up:.1f} s"
    )


def test_a_server_that_starts_again_reads_what_it_has_no_copy_of(
    s3: S3, tiny_bert: str, base: Base, tmp_path: Path
) -> None:
    store = fill(STORE, base, TASKS)

    def start() -> int:
        """Start and end a server; return how many bundles it read from S3."""
        before = s3.bundles_read()
        with servers(tiny_bert, [tmp_path / "one"]) as (server,):
            assert [ask(server, task).status_code for task in TASKS] == [200] * len(TASKS)
        return s3.bundles_read() - before

    assert start() == len(TASKS)
    assert start() == 0
    store.publish(bundle_of(base, "sentiment", seed=1))
    assert start() == 1
