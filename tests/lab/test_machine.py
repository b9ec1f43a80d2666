from pathlib import Path

import pytest

from lab import machine
from masking.kernels.cpu import processor

_CPUINFO = """processor\t: 0
cpu family\t: 25
model\t\t: 17
model name\t: Some CPU
flags\t\t: fpu avx2 avx512f avx512_bf16

processor\t: 1
model name\t: Another
"""


def test_the_line_names_what_decides_the_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(_CPUINFO)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    line = machine.processor_line()
    assert line.startswith("Some CPU (family 25, model 17, avx2, avx512f, avx512_bf16), ")
    assert machine.describe_machine()["instructions"] == ["avx2", "avx512f", "avx512_bf16"]


def test_where_linux_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    described = machine.describe_machine()
    assert (described["family"], described["instructions"]) == (None, [])
    assert machine.processor_line().endswith(("core", "cores"))
