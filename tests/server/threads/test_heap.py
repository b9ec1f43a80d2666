import subprocess
import sys

import pytest

SIZE, TIMES = 10_000_000, 20
PROGRAM = f"""
import ctypes, resource, sys
from server.threads.heap import keep_freed
if not hasattr(ctypes.CDLL(None), "mallopt"):
    sys.exit()
keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
pieces = [bytes({SIZE} // 100)] * 100
b"".join(pieces)
begun = faults()
for _ in range({TIMES}):
    b"".join(pieces)
print(faults() - begun)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_a_large_body_gets_the_memory_of_the_one_before() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    if not run.stdout:
        pytest.skip("needs glibc")
    assert int(run.stdout) < 2 * TIMES
