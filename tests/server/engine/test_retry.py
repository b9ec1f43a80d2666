import gc
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from masking.tasks.predictions import Floats
from server.engine import retry
from server.engine.pending import QueueEntry
from server.engine.retry import BatchResult, compute_with_retry
from server.errors import BackendFailedError, OutOfMemoryError, ServerError
from tests.support.server_parts import TaskBatches, features, pending

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("not enough memory: you tried to allocate 1099511627776 bytes"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


def _entries(**lengths: Sequence[int]) -> list[QueueEntry]:
    """One request per task, with an input of each length."""
    requests = [pending(digest, [features(length) for length in those]) for digest, those in lengths.items()]
    return [entry for one in requests for entry in one.entries()]


def _lengths(batch: TaskBatches) -> list[list[Floats]]:
    return [[np.array([item.tokens], np.float32) for item in one.features] for one in batch]


def _read(result: BatchResult) -> dict[tuple[str, int], float | type[ServerError]]:
    """By task and index, the only logit or the kind of the error."""
    return {
        (entry.request.task.digest, entry.index): type(answer)
        if isinstance(answer, ServerError)
        else float(answer[0])
        for entry, answer in result.answers
    }


class Small:
    """A compute with memory for so many tokens; keeps what it was asked."""

    def __init__(self, tokens: int, error: Exception = OUT_OF_MEMORY[0]) -> None:
        self.tokens, self.error = tokens, error
        self.asked: list[list[int]] = []

    def __call__(self, batch: TaskBatches) -> list[list[Floats]]:
        lengths = [item.tokens for one in batch for item in one.features]
        self.asked.append(lengths)
        if sum(lengths) > self.tokens:
            raise self.error
        return _lengths(batch)


def test_what_succeeds_is_computed_once_task_by_task() -> None:
    compute = Small(100)
    interleaved = [item for pair in zip(_entries(a=[1, 2]), _entries(b=[3, 4]), strict=True) for item in pair]
    result = compute_with_retry(compute, interleaved)
    assert compute.asked == [[1, 2, 3, 4]]
    assert _read(result) == {("a", 0): 1, ("a", 1): 2, ("b", 0): 3, ("b", 1): 4}
    assert result.failures == ()


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_until_it_fits(error: Exception) -> None:
    compute = Small(6, error)
    result = compute_with_retry(compute, _entries(a=[3, 3], b=[3, 3]))
    assert compute.asked == [[3, 3, 3, 3], [3, 3], [3, 3]]
    assert set(_read(result).values()) == {3}
    assert result.failures == ("out_of_memory",)


def test_only_an_input_that_alone_is_too_large_fails() -> None:
    compute = Small(5)
    result = compute_with_retry(compute, _entries(a=[1, 9], b=[2, 2]))
    assert _read(result) == {("a", 0): 1, ("a", 1): OutOfMemoryError, ("b", 0): 2, ("b", 1): 2}
    assert compute.asked == [[1, 9, 2, 2], [1, 9], [1], [9], [2, 2]]
    assert result.failures == ("out_of_memory",) * 3


def test_other_failures_are_tried_again_task_by_task() -> None:
    asked: list[str] = []

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        asked.append("".join(one.task.digest for one in batch))
        if "b" in asked[-1]:
            raise ValueError
        return _lengths(batch)

    result = compute_with_retry(compute, _entries(a=[1], b=[2, 3], c=[4]))
    assert asked == ["abc", "a", "b", "c"]
    assert _read(result) == {
        ("a", 0): 1,
        ("b", 0): BackendFailedError,
        ("b", 1): BackendFailedError,
        ("c", 0): 4,
    }
    assert result.failures == ("failed", "failed")


@pytest.mark.parametrize("wrong", [[], [[]], [[np.zeros(1, np.float32)] * 2]])
def test_answers_that_do_not_match_the_inputs_are_a_failure(wrong: list[list[Floats]]) -> None:
    assert _read(compute_with_retry(lambda _: wrong, _entries(a=[1]))) == {("a", 0): BackendFailedError}


def test_what_a_worker_must_die_of_is_not_caught() -> None:
    def compute(_: TaskBatches) -> list[list[Floats]]:
        raise SystemExit

    with pytest.raises(SystemExit):
        compute_with_retry(compute, _entries(a=[1], b=[1]))


def test_a_device_that_can_not_compute_any_more_is_not_tried_again() -> None:
    def compute(_: TaskBatches) -> list[list[Floats]]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(torch.AcceleratorError):
        compute_with_retry(compute, _entries(a=[1], b=[1]))


def test_nothing_of_a_failed_try_is_held_while_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.logger, "disabled", True)  # pytest keeps what is logged, tracebacks too
    held: list[weakref.ref[Floats]] = []

    def compute(batch: TaskBatches) -> list[list[Floats]]:
        gc.collect()
        assert all(activation() is None for activation in held)
        activation = np.zeros(8, np.float32)
        held.append(weakref.ref(activation))
        if len(held) == 1:
            raise MemoryError(activation)
        return _lengths(batch)

    assert set(_read(compute_with_retry(compute, _entries(a=[1, 1]))).values()) == {1}
