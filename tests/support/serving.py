"""Servers: tiny tasks of every kind in a store, a server in this or another process, expected answers."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import uvicorn
from fastapi.testclient import TestClient

from lab.server_process import ServerProcess, server_command, start_server
from mask_store import MaskBundle, MaskStore
from masking import (
    Base,
    MaskedEncoder,
    Prediction,
    ScoresPrediction,
    TaskBatch,
    TaskInput,
    TaskSpec,
    TextInput,
    load_task,
)
from masking.tasks.predictions import Floats
from server.build import build_service
from server.engine.pending import Timings
from server.engine.retry import Compute
from server.http.app import create_app
from server.predictor import PredictRequest
from server.service import Service
from server.settings import Settings
from server.tasks.watcher import StoreWatcher
from server.tenants.keys_file import KeyEntry, changing, hash_of, new_key
from tests.support.models import random_bundle
from tests.support.server_parts import TaskBatches, zeros

SPECS = {
    "sentiment": TaskSpec("sequence-classification", ("bad", "good", "mixed"), max_length=32),
    "paraphrase": TaskSpec("sequence-classification", ("no", "yes"), max_length=40, pair=True),
    "names": TaskSpec("token-classification", ("O", "B-PER", "I-PER", "B-LOC"), max_length=32),
    "endings": TaskSpec("multiple-choice", (), max_length=40),
    "topics": TaskSpec(
        "multi-label-classification", ("art", "food", "sport"), max_length=32, thresholds=(0.5, 0.6, 0.25)
    ),
    "rating": TaskSpec("regression", ("score",), max_length=32),
    "relevance": TaskSpec("reranking", ("relevance",), max_length=40, pair=True),
    "semantic": TaskSpec("embedding", (), max_length=32, pooling="mean"),
}
TEXT = "the movie was good"
EXACT: Final = "fp32"
"""Precision of servers, unless a test wants another: `load_task` gives the same answers, but for rounding."""
ROOT = Path(__file__).parents[2]
Scores = dict[str, float]


def bundle_of(base: Base, task: str, *, seed: int = 0) -> MaskBundle:
    """A random mask for one of the tasks above."""
    return random_bundle(base, SPECS[task], task=task, seed=seed)


def fill(place: Path | str, base: Base, tasks: Sequence[str] = tuple(SPECS)) -> MaskStore:
    """A store with version 1 of each task."""
    store = MaskStore.open(place, create=True)
    for task in tasks:
        store.publish(bundle_of(base, task))
    return store


def add_key(file: Path, name: str, *tasks: str) -> str:
    """Add a key for some tasks to a keys file, which may be missing; returns it."""
    key = new_key()
    with changing(file) as keys:
        keys.append(KeyEntry(name=name, sha256=hash_of(key).hex(), tasks=tasks))
    return key


def settings_of(place: Path | str, **others: Any) -> Settings:
    """Settings that look at the store often and compute on one thread, in `EXACT`."""
    values = {"device": "cpu", "threads": 1, "precision": EXACT, "poll_seconds": 0.02, **others}
    return Settings(base="tiny", store=str(place), **values)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition; fails if it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def look(watcher: StoreWatcher) -> None:
    """Look at the store once, and wait until what was found is loaded or reported."""
    watcher.poll()
    assert watcher.loads.wait(60), "loads do not end"


@contextmanager
def serving(
    base: Base, place: Path, *, compute: Compute | None = None, **others: Any
) -> Iterator[TestClient]:
    """A ready server in this process."""
    service = build_service(settings_of(place, **others), base=base, compute=compute)
    with TestClient(create_app(service)) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield client


@contextmanager
def listening(base: Base, place: Path, **others: Any) -> Iterator[str]:
    """A ready server in this process, on a port; gives its address."""
    service = build_service(settings_of(place, **others), base=base)
    config = uvicorn.Config(create_app(service), ws="none", log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started and service.why_not_ready() is None)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def started(base: Base, place: Path, *, compute: Compute | None = None, **options: Any) -> Iterator[Service]:
    """A ready service in this process, without HTTP."""
    service = build_service(settings_of(place, **options), base=base, compute=compute)
    service.start()
    try:
        wait_until(lambda: service.why_not_ready() is None)
        yield service
    finally:
        service.close()


def texts(*given: str, truncate: bool = False) -> PredictRequest:
    """A request of one text per input."""
    return PredictRequest(tuple(TextInput(text) for text in given), truncate)


async def predict(
    service: Service, request: PredictRequest, request_id: str = "", *, task: str = "sentiment"
) -> list[Prediction]:
    """Predict with a task, taken now."""
    return await service.predictor.predict(service.registry.get(task), request, request_id, Timings())


class Stuck:
    """A compute that waits until it is let go."""

    def __init__(self) -> None:
        self.started, self.let_go = Event(), Event()
        self.rows = 0

    def __call__(self, batch: TaskBatches) -> list[list[Floats]]:
        self.started.set()
        assert self.let_go.wait(20)
        self.rows += sum(len(one.features) for one in batch)
        return zeros(batch)


class FailingVersion:
    """A compute that fails at the rows of one version."""

    def __init__(self, base: Base, digest: str) -> None:
        self._logits = MaskedEncoder(base).logits
        self._digest = digest

    def __call__(self, batch: TaskBatches) -> Sequence[Sequence[Floats]]:
        if any(one.task.digest == self._digest for one in batch):
            raise RuntimeError("no")
        return self._logits(batch)


@dataclass(frozen=True)
class RunningServer(ServerProcess):
    """A server in a process of its own, and its store."""

    store: MaskStore

    @property
    def grpc_address(self) -> str:
        """Where it listens for gRPC, by its log."""
        found = re.search(r'over gRPC on ([^\s"]+)', self.log.read_text())
        assert found
        return found[1]


@contextmanager
def running(
    folder_of_base: str, base: Base, folder: Path, tasks: Sequence[str], *options: str
) -> Iterator[RunningServer]:
    """A ready server in a process of its own, on a new store with these tasks."""
    store = fill(folder / "store", base, tasks)
    command = server_command("--base", folder_of_base, "--store", folder / "store", "--port", 0)
    command += ["--device", "cpu", "--threads", "1", "--poll-seconds", "0.05"]
    command += ["--precision", EXACT, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONFAULTHANDLER": "1"}
    with start_server(command, folder / "log", folder=ROOT, environment=environment) as server:
        yield RunningServer(server.process, server.url, server.log, store)


def expected_scores(base: Base, bundle: MaskBundle, given: TaskInput | None = None) -> Scores:
    """Scores by label that this bundle itself gives an input (`TEXT` if none is given)."""
    task = load_task(bundle, base)
    features = task.codec.encode([given or TextInput(TEXT)], truncate=False)
    prediction = task.codec.decode(MaskedEncoder(base).logits([TaskBatch(task, features)])[0][0])
    assert isinstance(prediction, ScoresPrediction)
    names = task.spec.labels or [str(i) for i in range(len(prediction.scores))]
    return {name: float(score) for name, score in zip(names, prediction.scores, strict=True)}


def scores_in(entries: Sequence[dict[str, Any]]) -> Scores:
    """Scores by label in a reply."""
    return {entry["label"]: entry["score"] for entry in entries}
