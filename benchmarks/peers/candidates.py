"""Candidates of `mixed_batch`: the ways to compute one batch of many tasks, by their names in tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from benchmarks.errors import WrongResultError
from benchmarks.peers import dense as peers
from benchmarks.peers import lora
from benchmarks.peers.dense import Run
from benchmarks.peers.ours import Ours
from lab.random_tasks import Workload
from masking import Base
from masking.kernels import available

DENSE, KERNEL, OURS = "one dense", "unmasked_kernel", "ours"
COPIES, NAIVE, PEFT, POLYLORA = "copies", "naive", "peft", "polylora"
PEERS = (KERNEL, COPIES, NAIVE, PEFT, POLYLORA)
LARGEST_ERROR = 1e-5


def packages(wanted: Sequence[str]) -> list[str]:
    """Return the packages that these peers need."""
    return [name for name in (PEFT, POLYLORA) if name in wanted or (name == PEFT and POLYLORA in wanted)]


COLUMNS = {
    KERNEL: "one unmasked model on our kernel without masks, as torch's matrix product may use other vectors "
    "than the kernel does; ours over this is what the masks themselves cost",
    OURS: "ours, with one bit per weight and task",
    COPIES: "a finetuned copy per task, each on its rows",
    NAIVE: "per layer and task, bits expanded and W * M multiplied",
    PEFT: f"PEFT LoRA of rank {lora.RANK} on the same layers, adapter_names; computes something else",
    POLYLORA: f"PolyLoRA of rank {lora.RANK} on the same layers; computes something else",
}


@dataclass(frozen=True)
class Ready:
    """Candidates for one batch.

    Attributes:
        runs: What can be timed, by name, the bound first.
        skipped: Why others can't.
    """

    runs: Mapping[str, Run]
    skipped: Mapping[str, str]

    def largest_errors(self, exact: Tensor) -> dict[str, float]:
        """Largest error of each candidate that computes our masks, relative to the largest logit.

        Raises:
            WrongResultError: One is above `LARGEST_ERROR`.
        """
        checked = {OURS, COPIES, NAIVE}
        scale = exact.abs().max()
        errors = {
            name: float((run() - exact).abs().max() / scale)
            for name, run in self.runs.items()
            if name in checked
        }
        for name, error in errors.items():
            if not error <= LARGEST_ERROR:
                raise WrongResultError(f"{name}: relative error of the logits {error:.1e}; nothing is timed")
        return errors


class Candidates:
    """Makes the candidates for one batch after another; copies are made once."""

    def __init__(self, base: Base, wanted: Sequence[str], gigabytes: float) -> None:
        """`wanted` are names of `PEERS`; the copies may take `gigabytes`."""
        self._base, self._limit = base, gigabytes * 1e9
        self._ours, self._copies = Ours(base), peers.Copies()
        self._names = [DENSE, OURS, *(name for name in PEERS if name in wanted)]

    def ready(self, workload: Workload) -> Ready:
        """All that are wanted and can be had."""
        makers: dict[str, Callable[[], Run]] = {
            DENSE: partial(peers.dense, workload),
            KERNEL: partial(peers.kernel, workload),
            OURS: partial(self._ours.ready, workload),
            COPIES: partial(self._copies, workload),
            NAIVE: partial(peers.naive, workload),
            PEFT: partial(lora.peft, workload),
            POLYLORA: partial(lora.polylora, workload),
        }
        obstacles = self._obstacles(len(workload.tasks))
        runs = {name: makers[name]() for name in self._names if name not in obstacles}
        return Ready(runs, {name: obstacles[name] for name in self._names if name in obstacles})

    def _obstacles(self, tasks: int) -> dict[str, str]:
        """Find what can't be measured for so many tasks, and why."""
        size = 4 * tasks * peers.masked_weights(self._base)
        obstacles = {COPIES: f"skipped: {size / 1e9:.1f} GB"} if size > self._limit else {}
        return obstacles if available() else obstacles | {KERNEL: "skipped: no numba"}
