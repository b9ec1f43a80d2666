"""Versions side by side under load: two server processes over one store share requests and follow each other.

Slow: it sends tens of thousands of requests, and prints shares, times and what a shadow costs (`pytest -s`).
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx
import pytest

from benchmarks.measure.load import HttpClient, Load, load
from lab.machine import processor_line
from lab.random_models import save_random_base
from lab.random_tasks import random_bundle
from lab.server_process import ServerProcess, server_command, start_server
from mask_store import MaskStore
from masking import Base, load_base
from tests.support.serving import EXACT, ROOT, TEXT, bundle_of, fill, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TASK = "sentiment"
CLIENTS = 8
REQUESTS = 10_000
KEY = "admin"


@contextmanager
def servers(count: int, base: Path | str, store: Path, folder: Path, *options: str) -> Iterator[list[str]]:
    """Ready servers in processes of their own on one store; gives their addresses."""
    command = server_command("--base", base, "--store", store, "--port", 0, "--device", "cpu", "--threads", 1)
    command += ["--poll-seconds", "0.1", "--queue-limit", "2000", "--log-level", "info", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASKSERVE_ADMIN_KEY": KEY, "HF_HUB_OFFLINE": "1"}
    with ExitStack() as stack:
        started: list[ServerProcess] = [
            stack.enter_context(
                start_server(command, folder / f"log-{number}", folder=ROOT, environment=environment)
            )
            for number in range(count)
        ]
        yield [server.url for server in started]


@pytest.fixture
def two(tiny_bert: str, base: Base, tmp_path: Path) -> Iterator[tuple[list[str], MaskStore]]:
    store = fill(tmp_path / "store", base, [TASK])
    for seed in (1, 2):
        store.publish(bundle_of(base, TASK, seed=seed))
    with servers(2, tiny_bert, tmp_path / "store", tmp_path, "--precision", EXACT) as urls:
        yield urls, store


def asked(urls: Sequence[str], keys: Sequence[str | None]) -> list[list[int]]:
    """The versions that answered, by server; each takes all requests with a key, others take turns."""

    def client(number: int) -> list[tuple[int, int, int]]:
        found = []
        with httpx.Client() as http:
            for place in range(number, len(keys), CLIENTS):
                key = keys[place]
                for server in range(len(urls)) if key is not None else (place % len(urls),):
                    headers = {} if key is None else {"x-sticky-key": key}
                    reply = http.post(
                        f"{urls[server]}/predict/{TASK}", json={"inputs": TEXT}, headers=headers
                    )
                    assert reply.status_code == 200, reply.text
                    found.append((server, place, int(reply.headers["x-task-version"])))
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        every = sorted(one for part in pool.map(client, range(CLIENTS)) for one in part)
    return [[version for at, _, version in every if at == server] for server in range(len(urls))]


def change(url: str, plan: dict[str, object]) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    reply = httpx.put(f"{url}/tasks/{TASK}/traffic", json=plan, headers=headers)
    assert reply.status_code == 200, reply.text


def seconds_until(condition: Callable[[], bool]) -> float:
    begun = time.monotonic()
    wait_until(condition, 5.0)
    return time.monotonic() - begun


def followed(url: str) -> bool:
    told = httpx.get(f"{url}/tasks/{TASK}/traffic").json()
    return bool(told["active"] and told["followed"])


def versions_of(url: str) -> list[str]:
    found: list[str] = httpx.get(f"{url}/v2/models/{TASK}").json()["versions"]
    return found


def version_of(url: str) -> str:
    reply = httpx.post(f"{url}/predict/{TASK}", json={"inputs": TEXT})
    return str(reply.headers["x-task-version"])


def test_two_servers_share_requests_by_weight_and_follow_each_other(
    two: tuple[list[str], MaskStore],
) -> None:
    urls, store = two
    weights = {1: 70, 2: 25, 3: 5}
    change(urls[0], {"weights": weights, "stable": 1})
    print(f"\nfollowed by the other server after {seconds_until(lambda: followed(urls[1])):.2f} s")

    begun = time.monotonic()
    by_server = asked(urls, [None] * REQUESTS)
    rate = REQUESTS / (time.monotonic() - begun)
    for versions in (*by_server, [*by_server[0], *by_server[1]]):
        shares = Counter(versions)
        told = {number: 100 * shares[number] / len(versions) for number in weights}
        print(f"{len(versions)} requests without a key, {rate:.0f} a second in all: {told}")
        assert all(abs(told[number] - weight) < 2 for number, weight in weights.items())

    one, other = asked(urls, [f"user {number}" for number in range(REQUESTS // 2)])
    again, _ = asked(urls, [f"user {number}" for number in range(1000)])
    told = {number: 100 * share / len(one) for number, share in sorted(Counter(one).items())}
    differing = sum(a != b for a, b in zip(one, other, strict=True))
    print(f"{len(one)} keys, each on both servers: {told}, {differing} with another version on the other")
    assert one == other
    assert again == one[:1000]
    assert all(abs(told[number] - weight) < 2 for number, weight in weights.items())

    store.promote(TASK, 2)
    seconds = seconds_until(lambda: [versions_of(url) for url in urls] == [["2"], ["2"]])
    print(f"promoted on both after {seconds:.2f} s")
    change(urls[1], {"weights": {2: 50, 3: 50}})
    seconds_until(lambda: followed(urls[0]))
    httpx.post(f"{urls[0]}/tasks/{TASK}/traffic/abort", headers={"authorization": f"Bearer {KEY}"})
    seconds = seconds_until(lambda: [versions_of(url) for url in urls] == [["2"], ["2"]])
    assert {version_of(url) for url in urls for _ in range(8)} == {"2"}
    print(f"aborted on both after {seconds:.2f} s")


def test_a_threshold_ends_traffic_on_both_servers_under_load(two: tuple[list[str], MaskStore]) -> None:
    urls, store = two
    rule = {"agreement": 1.0, "rows": 500}
    change(urls[0], {"weights": {1: 90, 2: 10}, "stable": 1, "shadow": 2, "abort": rule})
    seconds_until(lambda: followed(urls[1]))
    texts = [f"{TEXT} {word}" for word in ("good", "bad", "no", "yes", "film", "it", "was", "the")]
    with ThreadPoolExecutor(CLIENTS) as pool:

        def client(text: str) -> None:
            with httpx.Client() as http:
                for number in range(300):
                    reply = http.post(f"{urls[number % 2]}/predict/{TASK}", json={"inputs": text})
                    assert reply.status_code == 200, reply.text

        list(pool.map(client, texts))
    wait_until(lambda: {version_of(url) for url in urls for _ in range(20)} == {"1"})
    kept = store.traffic(TASK)
    assert kept is not None and kept.aborted is not None
    print(f"\n{kept.aborted.reason}")
    assert kept.aborted.reason.startswith("version 2 agrees with version 1 on")


def test_what_a_shadow_costs(tmp_path: Path) -> None:
    save_random_base("minilm", tmp_path / "base")
    base = load_base(str(tmp_path / "base"))
    store = MaskStore.open(tmp_path / "store", create=True)
    for seed in range(2):
        store.publish(random_bundle(base, TASK, 0.05, seed))
    texts = [f"word {number} " * 10 for number in range(50)]

    async def one_load(url: str, count: int) -> Load:
        bodies = [(f"/predict/{TASK}", {"inputs": text}) for text in texts]
        clients = [await HttpClient.connect(url, bodies) for _ in range(count)]
        found = await load(clients, 3.0)
        for client in clients:
            await client.close()
        return found

    print(f"\nMiniLM shape, texts of 32 tokens, on {processor_line()}")
    with servers(1, tmp_path / "base", tmp_path / "store", tmp_path) as (url,):
        for count in (1, 8):
            loads: dict[bool, list[Load]] = {False: [], True: []}
            for turn in range(8):
                shadow = bool(turn % 2)
                change(url, {"weights": {2: 100}, **({"shadow": 1} if shadow else {})})
                found = asyncio.run(one_load(url, count))
                if turn > 1:
                    loads[shadow].append(found)
            rates = {shadow: median(one.rate for one in each) for shadow, each in loads.items()}
            p50 = {shadow: 1000 * median(one.p50 for one in each) for shadow, each in loads.items()}
            told = httpx.get(f"{url}/tasks/{TASK}/traffic").json()["shadow"]
            print(
                f"{count} clients: {rates[False]:.0f} requests a second alone, {rates[True]:.0f} with a "
                f"shadow ({rates[False] / rates[True]:.2f} times the time), p50 {p50[False]:.1f} and "
                f"{p50[True]:.1f} ms; {told['rows']} compared, {told['skipped_rows']} skipped"
            )
            assert told["rows"] > 0
