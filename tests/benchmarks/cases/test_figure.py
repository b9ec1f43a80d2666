import json
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.figure import _COLORS
from benchmarks.peers.columns import COLUMNS, COPIES, KERNEL, OURS


def _report(path: Path) -> Path:
    result = {
        **{"tasks": 16, "tokens": 32, "assignment": "even", "zeros": 0.05, "threads": 1},
        "precision": "bf16",
        "ratios": {OURS: {"min": 1.1}, KERNEL: {"min": 1.0}},
        "skipped": {COPIES: "skipped: 9.0 GB"},
    }
    report = {
        "benchmark": "mixed_batch",
        "model": {"name": "some model"},
        "machine": {"processor": "some processor", "capability": "AVX2", "versions": {"torch": "2"}},
        "results": [result, result | {"threads": 2}],
        "tasks_in_use": [],
    }
    path.write_text(json.dumps(report))
    return path


def test_every_column_has_a_color_of_its_own() -> None:
    assert len(COLUMNS) == len({*_COLORS})


def test_figure(tmp_path: Path) -> None:
    out = tmp_path / "figure.png"
    reports = [str(_report(tmp_path / name)) for name in ("a.json", "b.json")]
    assert main(["figure", *reports, "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", ["{", "[]", '{"benchmark": "masked_linear"}'])
def test_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    assert main(["figure", str(path), "--out", str(tmp_path / "figure.png")]) == 1
    assert "other.json" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["matplotlib", "peft", "polylora", "onnxruntime", "openvino"])
def test_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["mixed_batch", "--shape", "tiny", "--figure", str(tmp_path / "figure.png")]) == 2
    assert f"{missing}, which is not installed: pip install 'maskserve[bench]'" in capsys.readouterr().err
