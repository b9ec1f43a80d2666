"""The CPU kernels of instruction sets that this processor lacks, which an emulator runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from masking.kernels.cpu.processor import NEEDED, TILES, has_tiles, lacks
from tests.masking.kernels.conftest import needs_kernels

ROOT = Path(__file__).parents[2]
TESTS = ["tests/masking/kernels/test_lines.py", "tests/masking/kernels/emulated_registers.py"]
LACKING = [one for one in NEEDED if lacks(one)] + [one for one in TILES if not has_tiles(one)]


@needs_kernels
@pytest.mark.skipif(not LACKING, reason="this processor has every instruction set")
@pytest.mark.timeout(900)
def test_kernels_of_instruction_sets_that_this_processor_lacks() -> None:
    plugins = ["-p", "tests.support.kernels.processor_emulator", "-p", "no:xdist", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "-k", "not 1thread", *TESTS]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
