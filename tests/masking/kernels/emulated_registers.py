"""Tile registers as the emulator sees them; `tests.masking.test_other_processors` runs this file under it."""

import ctypes

import numpy as np
import pytest

from masking.kernels.cpu.lines import Finish, kernel, launch, line_products
from tests.masking.kernels.test_lines import inputs_of, layer_of
from tests.support.kernels.cases import random_case
from tests.support.kernels.processor_emulator import on_configure

_INT = 8


def test_registers_are_as_before_when_a_job_counts_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    case, runner, left = random_case(64, 96, [40], 0.1), launch._runner(), list[int]()
    layer, inputs = layer_of(case, "bf16"), inputs_of(case, "bf16")

    def run(program: int, threads: int) -> None:
        job = np.ctypeslib.as_array((ctypes.c_int64 * len(kernel.Job)).from_address(program + _INT))
        scratch, size = int(job[kernel.Job.SCRATCH]), int(job[kernel.Job.SCRATCH_BYTES])

        def look(address: int) -> None:
            if address == scratch + size - 64:  # where the first thread saved them
                left.append(int(job[kernel.Job.PIECES] - job[kernel.Job.DONE_PIECES]))

        on_configure.append(look)
        runner(program, threads)
        on_configure.remove(look)

    monkeypatch.setattr(launch, "_runner", lambda: run)
    line_products(inputs, [layer], case.segments, Finish.FLOAT32)
    assert left == [1], "else another thread's next job may write over what was saved"
