"""Which form of a task's masks is in memory: a cache of unpacked masks within a byte budget.

Packed masks belong to the loaded task and are always resident. Unpacked masks are kept for the tasks used
last; keys are digests, so a new version can never be answered with an old version's masks. What does not fit
the budget at all is run packed.
"""

from collections import OrderedDict
from collections.abc import Collection
from threading import Lock

from masking import LayerMasks, LoadedTask, UnpackedMasks


class MaskCache:
    """Unpacked masks by digest, the least recently used dropped first; thread-safe."""

    def __init__(self, budget: int) -> None:
        """Starts empty; `budget` is in bytes."""
        self.budget = budget
        self._masks: OrderedDict[str, UnpackedMasks] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all unpacked masks held."""
        return self._nbytes

    def held_bytes(self, digest: str) -> int:
        """Bytes of one version's unpacked masks, 0 if they are not held."""
        with self._lock:
            masks = self._masks.get(digest)
            return 0 if masks is None else masks.nbytes

    def masks_of(self, task: LoadedTask) -> LayerMasks:
        """The task's masks in the best form that the budget allows; called by the worker."""
        needed = task.manifest.mask_bits  # a boolean takes one byte
        with self._lock:
            held = self._masks.get(task.digest)
            if held is not None:
                self._masks.move_to_end(task.digest)
                return held
            if needed > self.budget:
                return task.masks
            self._shrink(self.budget - needed)
        unpacked = task.masks.unpack()  # outside the lock: it takes a while, and only the worker adds masks
        with self._lock:
            self._masks[task.digest] = unpacked
            self._nbytes += unpacked.nbytes
        return unpacked

    def retain(self, digests: Collection[str]) -> None:
        """Drop the masks of every version that is served no longer."""
        with self._lock:
            for digest in self._masks.keys() - set(digests):
                self._nbytes -= self._masks.pop(digest).nbytes

    def _shrink(self, target: int) -> None:
        while self._nbytes > target:
            _, dropped = self._masks.popitem(last=False)
            self._nbytes -= dropped.nbytes
