"""Candidates of `mixed_batch`: the ways to compute one batch of many tasks in one precision."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor

from benchmarks.errors import UnavailableError, WrongResultError
from benchmarks.peers import adapters
from benchmarks.peers import dense as peers
from benchmarks.peers.columns import (
    AUTOCAST,
    COPIES,
    DENSE,
    KERNEL,
    MASKED,
    NAIVE,
    ONNX,
    ONNX_COPIES,
    OPENVINO,
    OPENVINO_COPIES,
    OURS,
    PEFT,
    POLYLORA,
    REFERENCE,
    ROAD,
    TOLERANCES,
    TORCH,
    Precision,
    columns,
)
from benchmarks.peers.dense import Run
from benchmarks.peers.exported import Engine, EngineCopies, Forward
from benchmarks.peers.onnx_model import OnnxModel
from benchmarks.peers.openvino_model import OpenVinoModel
from benchmarks.peers.ours import Ours
from lab.random_tasks import RandomTask, Workload
from masking import Base
from masking.kernels import available

_BYTES: Mapping[Precision, int] = {"fp32": 4, "bf16": 2, "int8": 1}
_ENGINES = (ONNX, ONNX_COPIES, OPENVINO, OPENVINO_COPIES)


class Exports:
    """The plain model in the engines beside torch, each exported when it is first asked for, and kept.

    Attributes:
        base: The encoder.
        head: The task whose head, before masking, all plain models have.
        exact: The encoder in float64, which all results are checked against.
    """

    def __init__(self, base: Base, head: RandomTask) -> None:
        """Create it without exports."""
        self.base, self.head = base, head
        self.exact = peers.in_dtype(base, torch.float64)
        self._made: dict[tuple[str, bool], Engine] = {}

    def get(self, name: str, precision: Precision) -> Engine:
        """Return the model in engine `ONNX` or `OPENVINO`, to be compiled for this precision."""
        key = name, precision == "int8"
        if key not in self._made:
            kind = OnnxModel if name == ONNX else OpenVinoModel
            self._made[key] = kind(self.base, self.head, quantised=precision == "int8")
        return self._made[key]

    def exact_logits(self, workload: Workload) -> "Exact":
        """Compute a batch in float64."""
        exact = replace(workload, base=self.exact)
        return Exact(peers.naive(exact)(), peers.dense(exact, self.head)())


@dataclass(frozen=True)
class Exact:
    """What candidates are checked against.

    Attributes:
        masked: Logits under the tasks' masks, float64 [rows, classes].
        plain: Those of the plain model.
    """

    masked: Tensor
    plain: Tensor


@dataclass(frozen=True)
class Ready:
    """Candidates for one batch.

    Attributes:
        precision: Theirs.
        runs: What can be timed, by name.
        skipped: Why others can't.
    """

    precision: Precision
    runs: Mapping[str, Run]
    skipped: Mapping[str, str]

    def checked(self, exact: Exact) -> tuple["Ready", dict[str, float]]:
        """Check what computes the plain model or the tasks' masks; adapters compute something else.

        Returns:
            What is left to be timed, and the largest error of each candidate over the largest logit. An
            engine whose error is too large is skipped.

        Raises:
            WrongResultError: The error of another candidate is above `TOLERANCES`.
        """
        errors, skipped = {}, dict(self.skipped)
        for name, run in self.runs.items():
            if name not in (*MASKED, *DENSE, KERNEL, REFERENCE):
                continue
            expected = exact.masked if name in MASKED else exact.plain
            error = float((run() - expected).abs().max() / expected.abs().max())
            precision: Precision = "fp32" if name == REFERENCE else self.precision
            if error <= TOLERANCES[precision]:
                errors[name] = error
            elif name in _ENGINES:
                skipped[name] = f"skipped: error {error:.1e}"
            else:
                raise WrongResultError(f"{name}: relative error of the logits {error:.1e}; nothing is timed")
        left = {name: run for name, run in self.runs.items() if name not in skipped}
        return Ready(self.precision, left, skipped), errors


class Candidates:
    """Makes the candidates for one batch after another; what batches have in common is made once."""

    def __init__(
        self, exports: Exports, precision: Precision, wanted: Sequence[str], gigabytes: float, threads: int
    ) -> None:
        """Create it without copies.

        Args:
            exports: Holds the base, and the engines' models.
            precision: Of all candidates but `REFERENCE`.
            wanted: Names of `DENSE` and `PEERS`; those that the precision has not are left out.
            gigabytes: What all copies together may take, of all engines.
            threads: Threads that engines beside torch compute with; torch's own are set elsewhere.
        """
        self._exports, self._precision, self._threads = exports, precision, threads
        self._limit = gigabytes * 1e9
        self._names = columns(precision, wanted)
        base = exports.base
        self._base = peers.in_dtype(base, torch.bfloat16) if precision == "bf16" else base
        self._copies = peers.Copies()
        self._compiled: dict[str, Forward] = {}
        self._engine_copies: dict[str, EngineCopies] = {}
        self._encoder = cache(partial(Ours, base, precision))

    def ready(self, workload: Workload) -> Ready:
        """All that are wanted and can be had."""
        own = replace(workload, base=self._base)
        head = self._exports.head
        makers: dict[str, Callable[[], Run]] = {
            TORCH: partial(peers.dense, own, head),
            AUTOCAST: partial(peers.autocast, workload, head),
            ONNX: partial(self._engine, ONNX, workload),
            OPENVINO: partial(self._engine, OPENVINO, workload),
            KERNEL: partial(self._kernel, workload),
            OURS: partial(self._ours, workload),
            COPIES: partial(self._copies, own),
            ONNX_COPIES: partial(self._copies_of, ONNX, workload),
            OPENVINO_COPIES: partial(self._copies_of, OPENVINO, workload),
            NAIVE: partial(peers.naive, own),
            PEFT: partial(adapters.peft, workload),
            POLYLORA: partial(adapters.polylora, workload),
            ROAD: partial(adapters.road, workload),
        }
        runs, skipped = {}, self._too_large(len(workload.tasks))
        if self._precision != "fp32" or TORCH not in self._names:
            runs[REFERENCE] = peers.dense(workload, head)
        for name in self._names:
            if name not in skipped:
                try:
                    runs[name] = makers[name]()
                except UnavailableError as error:
                    skipped[name] = f"skipped: {error}"
        return Ready(self._precision, runs, skipped)

    def _too_large(self, tasks: int) -> dict[str, str]:
        """Find the copies of so many tasks that there is no room for, once those before them have theirs."""
        weights = {
            COPIES: peers.masked_weights(self._base),
            ONNX_COPIES: self._base.info.parameters,
            OPENVINO_COPIES: self._base.info.parameters,
        }
        taken, obstacles = 0, {}
        for name in [name for name in weights if name in self._names]:
            size = _BYTES[self._precision] * tasks * weights[name]
            if taken + size > self._limit:
                obstacles[name] = f"skipped: {size / 1e9:.1f} GB"
            else:
                taken += size
        return obstacles

    def _engine(self, name: str, workload: Workload) -> Run:
        if name not in self._compiled:
            engine = self._exports.get(name, self._precision)
            self._compiled[name] = engine.compile(self._precision, self._threads)
        forward, ids = self._compiled[name], workload.ids.numpy()
        return lambda: forward(ids)

    def _copies_of(self, name: str, workload: Workload) -> Run:
        if name not in self._engine_copies:
            engine = self._exports.get(name, self._precision)
            compile_one = partial(engine.compile, self._precision, self._threads)
            self._engine_copies[name] = EngineCopies(compile_one, self._exports.head)
        return self._engine_copies[name](workload)

    def _kernel(self, workload: Workload) -> Run:
        if not available():
            raise UnavailableError("no numba")
        return self._accepted(lambda: self._encoder().ready_without_masks(workload, self._exports.head))

    def _ours(self, workload: Workload) -> Run:
        return self._accepted(lambda: self._encoder().ready(workload))

    def _accepted(self, make: Callable[[], Run]) -> Run:
        """Return a run of ours, once it was seen not to refuse the precision."""
        try:
            run = make()
            run()
        except ValueError as error:
            if self._precision == "fp32":
                raise
            raise UnavailableError(str(error)) from error
        return run
