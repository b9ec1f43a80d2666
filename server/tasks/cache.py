"""Which form of a task's masks is in memory: a cache of larger, faster forms within a byte budget.

Packed masks belong to the loaded task and are always resident, so every task can be computed at any time.
The larger forms (`masking.MaskForm`) are made off the worker's thread for tasks that requests ask for: the
hotter a task, the larger the form it may have, at the cost of colder ones. Keys are digests, so a new version
can never be answered with an old version's masks. Where packed masks are the fastest form, nothing is kept.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from torch import nn

from masking import LayerMasks, LoadedTask, MaskForm

logger = logging.getLogger(__name__)

_BYTES_PER_BIT: dict[MaskForm, int] = {"unpacked": 1, "folded": 4}
_HALF_LIFE = 30.0
_CLEARLY = 2.0
"""A task may displace another one that is this many times colder."""


@dataclass
class _Heat:
    """How much a task is used: a count of uses that halves every half-life."""

    uses: float = 0.0
    at: float = 0.0

    def now(self, clock: float) -> float:
        return self.uses * math.exp2((self.at - clock) / _HALF_LIFE)

    def add(self, clock: float) -> None:
        self.uses, self.at = self.now(clock) + 1.0, clock


@dataclass(frozen=True)
class HeldMasks:
    """A task's masks in one of the larger forms, one set per member."""

    form: MaskForm
    members: tuple[LayerMasks, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all members."""
        return sum(masks.nbytes for masks in self.members)


class MaskCache:
    """Larger forms of masks by digest; thread-safe."""

    def __init__(
        self,
        budget: int,
        linears: Mapping[str, nn.Linear],
        *,
        forms: Sequence[MaskForm] = ("unpacked", "folded"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts empty.

        Args:
            budget: Bytes that all larger forms together may take.
            linears: The maskable layers of the base by name, for folding.
            forms: The forms beside "packed" that are of use on this machine, the smaller first.
            clock: Seconds, for how hot a task is.
        """
        self.budget = budget
        self._linears = linears
        self._forms = tuple(forms)
        self._clock = clock
        self._held: dict[str, HeldMasks] = {}
        self._heat: dict[str, _Heat] = {}
        self._pinned: frozenset[str] = frozenset()
        self._lock = Lock()
        self._making: dict[str, Future[None]] = {}
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="mask-cache")

    @property
    def nbytes(self) -> int:
        """Bytes of everything held."""
        with self._lock:
            return self._nbytes()

    def held(self, digest: str) -> HeldMasks | None:
        """What is held of one version beside its packed masks."""
        with self._lock:
            return self._held.get(digest)

    def bytes_of(self, form: MaskForm) -> int:
        """Bytes held in one form."""
        with self._lock:
            return sum(held.nbytes for held in self._held.values() if held.form == form)

    def masks_of(self, task: LoadedTask) -> Sequence[LayerMasks]:
        """The task's masks, per member, in the best form that is there now; never waits."""
        held = self.held(task.digest)
        return [member.masks for member in task.members] if held is None else held.members

    def want(self, task: LoadedTask) -> None:
        """Note a use, and have a larger form made if the task is hot enough; does not wait for it.

        Called when a request is admitted, so that the form is made while the request waits in the queue.
        """
        if not self._forms or not self.budget:
            return
        with self._lock:
            self._heat.setdefault(task.digest, _Heat()).add(self._clock())
            form = None if task.digest in self._making else self._affordable(task)
            if form is not None:
                self._making[task.digest] = self._maker.submit(self._make, task, form)

    def pin(self, digests: Collection[str]) -> None:
        """Keep what is held of exactly these versions, however cold they are."""
        with self._lock:
            self._pinned = frozenset(digests)

    def retain(self, digests: Collection[str]) -> None:
        """Forget every version that is served no longer."""
        with self._lock:
            for digest in (self._held.keys() | self._heat.keys()) - set(digests):
                self._held.pop(digest, None)
                self._heat.pop(digest, None)

    def settle(self) -> None:
        """Wait until every form that is being made is there."""
        with self._lock:
            making = list(self._making.values())
        for future in making:
            future.result()

    def close(self) -> None:
        """Make no more forms."""
        self._maker.shutdown(cancel_futures=True)

    def _make(self, task: LoadedTask, form: MaskForm) -> None:
        try:
            packed = [member.masks for member in task.members]
            made = [one.fold(self._linears) if form == "folded" else one.unpack() for one in packed]
            held = HeldMasks(form, tuple(made))
            with self._lock:
                self._insert(task.digest, held)
        except Exception:
            logger.exception("no %s masks could be made of %s", form, task.digest[:19])
        finally:
            with self._lock:
                self._making.pop(task.digest, None)

    def _insert(self, digest: str, held: HeldMasks) -> None:
        if digest not in self._heat:  # served no longer
            return
        before = self._held.pop(digest, None)
        room = self.budget - self._nbytes()
        for colder in self._colder(digest):
            if held.nbytes <= room:
                break
            room += self._held.pop(colder).nbytes
        if held.nbytes <= room:
            self._held[digest] = held
        elif before is not None and before.nbytes <= room:
            self._held[digest] = before

    def _affordable(self, task: LoadedTask) -> MaskForm | None:
        """The largest form that the task may have and does not have."""
        held = self._held.get(task.digest)
        own = 0 if held is None else held.nbytes
        room = self.budget - self._nbytes() + own
        room += sum(self._held[digest].nbytes for digest in self._colder(task.digest))
        bits = sum(member.masks.bits for member in task.members)
        for form in reversed(self._forms):
            needed = bits * _BYTES_PER_BIT[form]
            if own < needed <= room:
                return form
        return None

    def _colder(self, digest: str) -> list[str]:
        """Versions that this one may displace, the coldest first."""
        now = self._clock()
        heat = {other: self._heat[other].now(now) for other in self._held if other != digest}
        limit = self._heat[digest].now(now) / _CLEARLY
        colder = [other for other, one in heat.items() if one <= limit and other not in self._pinned]
        return sorted(colder, key=heat.__getitem__)

    def _nbytes(self) -> int:
        return sum(held.nbytes for held in self._held.values())
