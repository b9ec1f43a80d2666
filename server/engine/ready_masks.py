"""Ready masks: those that the device computes with, within a budget of bytes.

A request holds the masks that it needs until it is answered, and this cache holds those that were used last.
What nobody holds is freed by that, and only then do its bytes come back: nothing is freed under a request,
and what requests use counts like all the rest. Where masks are missing, the first request that needs them has
them loaded in a thread of its own, and the others wait for the same load; those that were used least recently
go out for them.
"""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Literal, Protocol
from weakref import WeakValueDictionary, finalize

from mask_store import human_bytes
from masking import KnownTask, LoadedTask
from server.engine.queue import ignore
from server.errors import ShuttingDownError, TaskUnavailableError
from server.threads.load_pool import LoadPool
from server.threads.supervision import do_nothing

logger = logging.getLogger(__name__)

Residency = Literal["ready", "loading", "cold"]
_ROOM_SECONDS = 10.0
"""How long a load waits for masks that requests still use."""
_STEP_SECONDS = 0.005


class Version(Protocol):
    """A version of a task, as far as its masks are concerned."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def loaded(self) -> KnownTask:
        """What is known of it."""

    @property
    def digest(self) -> str:
        """Digest of its bundle."""


class InService(Protocol):
    """Which versions are in service."""

    def serves(self, name: str, digest: str) -> bool:
        """Tell whether a version with this digest is in service."""

    def keeps(self, name: str) -> bool:
        """Tell whether the masks of a task stay in memory."""


Load = Callable[[Any], LoadedTask]


class ReadyMasks:
    """The masks in memory, by digest of their bundles; safe to use from any thread.

    Attributes:
        budget: Most bytes of all masks, heads and numbers together; None for no limit.
    """

    def __init__(
        self,
        budget: int | None,
        registry: InService,
        *,
        threads: int = 1,
        room_seconds: float = _ROOM_SECONDS,
        on_lookup: Callable[[bool], None] = ignore,
        on_eviction: Callable[[], None] = do_nothing,
    ) -> None:
        """Start without masks.

        Args:
            budget: See the class.
            registry: Knows which versions are in service, and whose masks are kept.
            threads: How many are loaded at once.
            room_seconds: How long a load waits for masks that are in use.
            on_lookup: Called with whether the masks of a request were ready.
            on_eviction: Called when masks go out for others.
        """
        self.budget = budget
        self._registry = registry
        self._load: Load | None = None
        self._on_lookup, self._on_eviction = on_lookup, on_eviction
        self._room_seconds = room_seconds
        self._pool = LoadPool(threads, in_bulk=False)
        self._numbers = count()
        self._kept: OrderedDict[str, LoadedTask] = OrderedDict()
        self._alive: WeakValueDictionary[str, LoadedTask] = WeakValueDictionary()
        self._loading: dict[str, Future[LoadedTask]] = {}
        self._held = Counter[str]()
        self._freed: SimpleQueue[Mapping[str, int]] = SimpleQueue()  # may be put to from a destructor
        self._lock = Lock()
        self._turn = Lock()
        """Held by the load that waits for room, so that others do not take it away."""
        self._crowded = False
        """Whether a load waits for room."""

    def load_by(self, load: Load) -> None:
        """Have masks loaded by a function, which reports what goes wrong, and raises a ServerError."""
        self._load = load

    @property
    def ready(self) -> int:
        """How many versions are ready."""
        return len(self._kept)

    @property
    def loading(self) -> int:
        """How many are being loaded, or wait for it."""
        return len(self._loading)

    @property
    def nbytes(self) -> int:
        """Bytes that are held, or promised to a load."""
        with self._lock:
            return self._settled()

    def held(self, form: Literal["packed", "head", "signs"]) -> int:
        """Return the bytes that are held in one form."""
        with self._lock:
            self._settled()
            return self._held[form]

    def state(self, digest: str) -> Residency:
        """Tell how things stand with the masks of a version."""
        if digest in self._kept:
            return "ready"
        return "loading" if digest in self._loading else "cold"

    def peek(self, digest: str) -> LoadedTask | None:
        """Return masks that are ready, without using them."""
        return self._kept.get(digest)

    def newest(self) -> LoadedTask | None:
        """Return the masks that were used last; None where none are ready."""
        with self._lock:
            return next(reversed(self._kept.values()), None)

    def take(self, served: Version, *, counted: bool = True) -> LoadedTask | None:
        """Return the masks of a version if they are in memory, for as long as the caller holds them.

        Args:
            served: The version.
            counted: Whether that counts as a lookup; a request counts once.
        """
        with self._lock:
            task = self._look_up(served)
        if task is not None and counted:
            self._on_lookup(True)
        return task

    def get(self, served: Version) -> LoadedTask | Future[LoadedTask]:
        """Return the masks of a version, for as long as the caller holds them.

        Returns:
            The masks, or what becomes of their load: a ServerError where they can't be had.
        """
        if (task := self.take(served)) is not None:
            return task
        self._on_lookup(False)
        return self.load(served)

    def load(self, served: Version) -> Future[LoadedTask]:
        """Have the masks of a version loaded, unless they are ready or being loaded."""
        digest, outcome = served.digest, Future[LoadedTask]()
        outcome.set_running_or_notify_cancel()  # who stops waiting for it stops nobody else
        with self._lock:
            if (task := self._look_up(served)) is not None:
                outcome.set_result(task)
                return outcome
            if (other := self._loading.get(digest)) is not None:
                return other
            self._loading[digest] = outcome
        work = partial(self._bring, served, outcome)
        if not self._pool.submit(f"{served.name} {next(self._numbers)}", work):
            self._end(digest, outcome, ShuttingDownError())
        return outcome

    def fill(self, served: Version) -> bool:
        """Load masks that are not ready, if no others have to go for them; return whether there was room."""
        if self.state(served.digest) == "cold":
            if not self._has_room(served.loaded.ready_bytes):
                return False
            with suppress(Exception):  # was reported
                self.load(served).result()
        return True

    def put(self, task: LoadedTask, *, evict: bool) -> None:
        """Keep masks that were loaded already, if there is room for them.

        Args:
            task: Of a version that is about to be put in service.
            evict: Whether others may go for them.
        """
        if self.state(task.digest) == "ready":
            return
        try:
            if not evict and not self._has_room(task.nbytes):
                return
            with self._turn:
                self._reserve(task.name, task.nbytes)
        except TaskUnavailableError as error:
            logger.warning("%s", error.message)
            return
        self._settle_into(task, task.nbytes)

    def drop(self, digest: str) -> None:
        """Keep the masks of a version no longer, which is not in service any more."""
        with self._lock:
            task = self._kept.pop(digest, None)
        del task  # freed where no request uses it

    def relieve(self) -> None:
        """Let loads that wait behind slow ones begin; to be called now and then."""
        self._pool.relieve()

    def close(self, seconds: float) -> None:
        """Begin no more loads, and wait a while for those that go on."""
        self._pool.close(seconds)
        with self._lock:
            waiting = list(self._loading.items())
        for digest, outcome in waiting:
            self._end(digest, outcome, ShuttingDownError())

    def _look_up(self, served: Version) -> LoadedTask | None:
        """Return masks that are in memory, used last from now on; the lock is held."""
        digest = served.digest
        task = self._kept.get(digest)
        if task is None and not self._crowded:  # else those that go out would never be gone
            task = self._alive.get(digest)
        if task is not None and self._registry.serves(served.name, digest):
            self._kept[digest] = task
            self._kept.move_to_end(digest)
        return task

    def _bring(self, served: Version, outcome: Future[LoadedTask]) -> None:
        """Load masks; a thread does it."""
        promised = served.loaded.ready_bytes
        try:
            with self._turn:
                task = self._alive.get(served.digest)  # it went out, and is still in use
                if task is None:
                    self._reserve(served.name, promised)
            if task is None:
                task = self._load_into(served, promised)
        except Exception as error:
            self._end(served.digest, outcome, error)
        else:
            self._end(served.digest, outcome, task)

    def _load_into(self, served: Version, promised: int) -> LoadedTask:
        """Load masks into the room that they were promised."""
        assert self._load is not None
        try:
            task = self._load(served)
        except BaseException:
            self._freed.put({"promised": promised})
            raise
        self._settle_into(task, promised, keep=self._registry.serves(served.name, task.digest))
        if not self._registry.serves(served.name, task.digest):  # it was replaced while that was done
            self.drop(task.digest)
        return task

    def _end(self, digest: str, outcome: Future[LoadedTask], result: LoadedTask | Exception) -> None:
        with self._lock:
            ours = self._loading.get(digest) is outcome
            if ours:
                del self._loading[digest]
        if ours and isinstance(result, Exception):
            outcome.set_exception(result)
        elif ours:
            assert isinstance(result, LoadedTask)
            outcome.set_result(result)

    def _settle_into(self, task: LoadedTask, promised: int, *, keep: bool = True) -> None:
        """Count masks instead of what was promised to them, until nobody holds them any more."""
        sizes = {"packed": task.masks_nbytes, "head": task.head_nbytes, "signs": task.signs_nbytes}
        # requests may hold the members alone, in a task with shorter rows
        finalize(task.members[0], self._freed.put, sizes).atexit = False
        with self._lock:
            self._held.update(sizes)
            self._held["promised"] -= promised
            self._alive[task.digest] = task
            if keep:
                self._kept[task.digest] = task
        if self.budget is not None and self.nbytes > self.budget:  # a layout takes more than the bits
            self._evict()

    def _has_room(self, wanted: int) -> bool:
        return self.budget is None or self.nbytes + wanted <= self.budget

    def _reserve(self, name: str, wanted: int) -> None:
        """Take bytes of the budget; others go out for them. The turn is held.

        Raises:
            TaskUnavailableError: There is no room for so many, or none in time.
        """
        if self._take(wanted):
            return
        self._check_ever(name, wanted)  # else all the others would go for nothing
        end = time.monotonic() + self._room_seconds
        try:
            while not self._take(wanted):
                self._crowded = True
                if not self._evict():
                    self._check_ever(name, wanted)
                    if time.monotonic() >= end:
                        raise self._refusal(name, wanted, "the rest is in use")
                    time.sleep(_STEP_SECONDS)
        finally:
            self._crowded = False

    def _take(self, wanted: int) -> bool:
        with self._lock:
            if self.budget is not None and self._settled() + wanted > self.budget:
                return False
            self._held["promised"] += wanted
            return True

    def _evict(self) -> bool:
        """Let go of the masks that were used least recently, but for those that are to stay.

        Returns:
            Whether there were any.
        """
        with self._lock:
            for _ in range(len(self._kept)):
                digest, task = next(iter(self._kept.items()))
                if not self._registry.keeps(task.name):
                    del self._kept[digest]
                    self._on_eviction()
                    return True
                self._kept.move_to_end(digest)
        return False

    def _check_ever(self, name: str, wanted: int) -> None:
        """Refuse what would not fit in if no request were in flight, beside the masks that are to stay."""
        assert self.budget is not None
        staying = self._staying()
        if staying + wanted > self.budget:
            raise self._refusal(name, wanted, f"pinned and required tasks keep {human_bytes(staying)} of it")

    def _staying(self) -> int:
        """Return the bytes of masks that don't go out for others; an error must not hold the masks."""
        with self._lock:
            return sum(task.nbytes for task in self._kept.values() if self._registry.keeps(task.name))

    def _refusal(self, name: str, wanted: int, why: str) -> TaskUnavailableError:
        assert self.budget is not None
        return TaskUnavailableError(
            f"no room for the masks of task {name!r}: they take {human_bytes(wanted)}, --mask-memory is "
            f"{human_bytes(self.budget)}, and {why}"
        )

    def _settled(self) -> int:
        """Return the bytes that are held, after those that were freed; the lock is held."""
        with suppress(Empty):
            while True:
                self._held.subtract(self._freed.get_nowait())
        return self._held.total()
