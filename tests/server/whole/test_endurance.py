"""What only shows after a while: answers while versions come and go, and memory after a thousand swaps."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mask_store import MaskBundle, MaskStore, TaskManifest
from masking import Base, MaskedEncoder, TaskBatch, TaskSpec, load_base, load_task
from server.http.parsing import parse_request
from server.http.rendering import render
from tests.support.models import WORDS, random_bundle, tiny_base
from tests.support.server_parts import limits
from tests.support.serving import SPECS, RunningServer, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TASKS, VERSIONS, BODIES, CLIENTS, SECONDS = 64, 3, 12, 32, 60.0
ROUNDS, WARM = 1000, 10
ADMIN = {"authorization": "Bearer the-admin-key"}
Body = dict[str, Any]


def bodies_of(spec: TaskSpec, rng: random.Random) -> list[Body]:
    """Random requests that a task of this kind takes."""

    def text() -> str:
        return " ".join(rng.choices(WORDS[:40], k=rng.randint(1, 12)))

    def body() -> Body:
        if spec.kind == "token-classification":
            return {"tokens": text().split()}
        if spec.kind == "multiple-choice":
            return {"context": text(), "choices": [text() for _ in range(rng.randint(2, 4))]}
        return {"inputs": [text(), text()] if spec.pair else text()}

    return [body() for _ in range(BODIES)]


@dataclass
class World:
    """Tasks with several versions each, requests for them, and the right answers.

    Attributes:
        bundles: By task its versions.
        bodies: By task its requests.
        answers: By digest and number of the request, computed alone.
    """

    bundles: dict[str, list[MaskBundle]] = field(default_factory=dict)
    bodies: dict[str, list[Body]] = field(default_factory=dict)
    answers: dict[tuple[str, int], Any] = field(default_factory=dict)

    @classmethod
    def create(cls, base: Base) -> "World":
        world, encoder, rng = cls(), MaskedEncoder(base), random.Random(0)
        for number in range(TASKS):
            kind, spec = list(SPECS.items())[number % len(SPECS)]
            task = f"{kind}-{number}"
            seeds = range(number, number + VERSIONS * TASKS, TASKS)
            world.bundles[task] = [random_bundle(base, spec, task=task, seed=seed) for seed in seeds]
            world.bodies[task] = bodies_of(spec, rng)
            for bundle in world.bundles[task]:
                world._answer(bundle, base, encoder)
        return world

    def _answer(self, bundle: MaskBundle, base: Base, encoder: MaskedEncoder) -> None:
        task = load_task(bundle, base)
        for number, body in enumerate(self.bodies[bundle.manifest.task]):
            wanted, reply = parse_request(body, task, limits())
            features = task.codec.encode(wanted.inputs, truncate=False)
            logits = encoder.logits([TaskBatch(task, features)])[0]
            predictions = [task.codec.decode(values) for values in logits]
            self.answers[bundle.digest, number] = render(task, wanted.inputs, predictions, reply)


@pytest.fixture(scope="module")
def world(base: Base) -> World:
    return World.create(base)


def same(ours: Any, theirs: Any) -> bool:
    """Whether two replies have equal labels in equal order, and scores within 1e-5."""
    if isinstance(theirs, float):
        return bool(abs(ours - theirs) <= 1e-5)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    return bool(ours == theirs)


def test_a_minute_of_mixed_traffic_while_versions_come_and_go(
    world: World, base: Base, tiny_bert: str, tmp_path: Path
) -> None:
    with running(tiny_bert, base, tmp_path, []) as server:
        for bundles in world.bundles.values():
            server.store.publish(bundles[0])
        wait_for_tasks(server, TASKS)
        asked, wrong, digests, changes = asyncio.run(traffic(world, server))
    print(f"\n{TASKS} tasks, {CLIENTS} clients, {SECONDS:.0f} s: {asked} requests, {len(wrong)} not right, ")
    print(f"{changes} changes of a version, {len(digests)} versions answered")
    assert wrong == []
    assert changes >= SECONDS
    assert len(digests) > TASKS + SECONDS / 2  # the new versions were served, not only published


async def traffic(world: World, server: RunningServer) -> tuple[int, list[object], set[str], int]:
    """How much was asked, what went wrong, the digests that answered, and how often a version changed."""
    wrong: list[object] = []
    digests: set[str] = set()
    ended = asyncio.Event()
    asked = 0

    async def ask(seed: int) -> None:
        nonlocal asked
        rng = random.Random(seed)
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            while not ended.is_set():
                task = rng.choice(list(world.bundles))
                number = rng.randrange(BODIES)
                reply = await client.post(f"/predict/{task}", json=world.bodies[task][number])
                asked += 1
                digest = reply.headers.get("x-mask-digest", "")
                digests.add(digest)
                right = world.answers.get((digest, number))
                if reply.status_code != httpx.codes.OK or not same(reply.json(), right):
                    wrong.append((task, reply.status_code, reply.text, right))

    clients = [asyncio.create_task(ask(seed)) for seed in range(CLIENTS)]
    changes = await asyncio.to_thread(change_versions, world, server.store, SECONDS)
    ended.set()
    await asyncio.gather(*clients)
    return asked, wrong, digests, changes


def change_versions(world: World, store: MaskStore, seconds: float) -> int:
    """Every second publishes a version of one task and rolls another one back; how many times."""
    rng, changes = random.Random(1), 0
    start = time.monotonic()
    while (left := start + seconds - time.monotonic()) > 0:
        fresh, old = rng.sample(list(world.bundles), 2)
        store.publish(rng.choice(world.bundles[fresh]))
        if len(versions := store.versions(old)) > 1:
            store.rollback(old, rng.choice(versions).number)
        changes += 1
        time.sleep(min(left, max(0.0, start + changes - time.monotonic())))
    return changes


def wait_for_tasks(server: RunningServer, count: int) -> None:
    """Until so many tasks are served."""
    while len(httpx.get(f"{server.url}/tasks").json()["tasks"]) < count:
        assert server.process.poll() is None


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base whose masks are large enough to be seen in a process's memory: about 1 MB a task."""
    return tiny_base(tmp_path_factory.mktemp("bases") / "wide", hidden=512, blocks=6)


@pytest.fixture
def lasting(
    wide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RunningServer, MaskBundle]]:
    """A server with two versions of one task, and the first of them."""
    monkeypatch.setenv("MASKSERVE_ADMIN_KEY", "the-admin-key")
    base = load_base(wide)
    first, second = (random_bundle(base, SPECS["sentiment"], task="sentiment", seed=seed) for seed in (0, 1))
    with running(wide, base, tmp_path, []) as server:
        server.store.publish(first)
        server.store.publish(second)
        wait_for_tasks(server, 1)
        yield server, first


def resident(server: RunningServer) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def repeat(server: RunningServer, calls: Sequence[tuple[str, Body]]) -> tuple[int, int]:
    """Resident bytes after the first rounds and after all."""
    early = 0
    with httpx.Client(base_url=server.url, headers=ADMIN, timeout=30) as client:
        for number in range(ROUNDS):
            for path, body in calls:
                client.post(path, json=body).raise_for_status()
            if number == WARM - 1:
                early = resident(server)
    return early, resident(server)


def test_a_thousand_swaps_leave_the_memory_as_it_was(lasting: tuple[RunningServer, MaskBundle]) -> None:
    ask = ("/predict/sentiment", {"inputs": "the movie was good"})
    swap = [("/tasks/sentiment/rollback", {"version": number}) for number in (1, 2)]
    early, late = repeat(lasting[0], [swap[0], ask, swap[1], ask])
    assert late <= 1.03 * early


def test_a_thousand_loads_and_unloads_leave_the_memory_as_it_was(
    lasting: tuple[RunningServer, MaskBundle],
) -> None:
    calls: list[tuple[str, Body]] = [("/tasks/sentiment/unload", {}), ("/tasks/sentiment/load", {})]
    early, late = repeat(lasting[0], [*calls, ("/predict/sentiment", {"inputs": "the movie was good"})])
    assert late <= 1.03 * early


def test_the_memory_report_is_what_the_process_holds(tmp_path: Path) -> None:
    """With masks of 4 MB, beside which a task's manifest and other small objects are little."""
    folder = tiny_base(tmp_path / "base", hidden=1024, blocks=6)
    base = load_base(folder)
    bundle = random_bundle(base, SPECS["sentiment"])
    assert isinstance(bundle.manifest, TaskManifest)
    (member,) = bundle.members

    def publish(server: RunningServer, first: int, last: int) -> tuple[int, int]:
        """Bytes reported and bytes resident, once that many tasks are served."""
        for number in range(first, last):
            manifest = bundle.manifest.model_copy(update={"task": f"task-{number}"})
            assert isinstance(manifest, TaskManifest)
            server.store.publish(MaskBundle.create(manifest, member.masks, member.head))
        wait_for_tasks(server, last)
        report = httpx.get(f"{server.url}/memory").json()
        assert report["process_bytes"] == pytest.approx(resident(server), rel=0.02)
        return report["total"]["resident_bytes"], report["process_bytes"]

    with running(folder, base, tmp_path, []) as server:
        reported, held = zip(publish(server, 0, 10), publish(server, 10, 50), strict=True)
    told, grown = reported[1] - reported[0], held[1] - held[0]
    assert told <= grown <= 1.05 * told
