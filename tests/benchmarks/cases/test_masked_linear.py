import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.masked_linear import TOLERANCES, candidates, cuda_candidates, wrong
from lab.random_layers import Layer, Setting
from masking.kernels import CudaPrecision


@pytest.mark.parametrize("zeros", [0.0, 0.07, 1.0])
def test_every_candidate_computes_the_same(zeros: float) -> None:
    layer = Layer.random(Setting(tasks=3, tokens=35, rows=64, columns=50, zeros=zeros, threads=1))
    for name, run in candidates(layer).items():
        if name != "one dense":
            assert layer.largest_error(run()) < 1e-5, name


@pytest.mark.parametrize("precision", TOLERANCES)
def test_every_candidate_on_cuda_computes_the_same(
    precision: CudaPrecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    from tests.support.kernels.triton_interpreter import interpret  # noqa: PLC0415 (needs Triton)

    interpret(monkeypatch)
    layer = Layer.random(Setting(tasks=3, tokens=20, rows=64, columns=50, zeros=0.1, threads=1))
    ways = cuda_candidates(layer, precision)
    assert list(ways) == ["one dense", "N dense copies", "expand bits per task", "kernel"]
    for name in list(ways)[1:]:
        assert layer.largest_error(ways[name]()) < TOLERANCES[precision], name


@pytest.mark.gpu
@pytest.mark.parametrize("more", [["--precision", "tf32"], ["--eager"]])
def test_command_line_on_cuda(more: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    small = ["--device", "cuda", "--batches", "2x4", "--shapes", "64x96", *more]
    assert main(["masked_linear", "--json", str(out), *small]) == 0
    report = json.loads(out.read_text())
    assert report["machine"]["gpu"]["name"]
    assert report["results"][0]["ratios"]["kernel"]["min"] > 0


def test_cuda_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["masked_linear", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "masked_linear: there is no CUDA device that torch can use\n"


def test_precisions_are_of_cuda(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["masked_linear", "--precision", "bf16"]) == 2
    assert "need --device cuda" in capsys.readouterr().err


def test_wrong_results_are_named() -> None:
    setting = {"tasks": 2, "tokens": 4, "rows": 32, "columns": 24, "precision": "fp32"}
    lines = wrong({**setting, "errors": {"a": 1e-7, "b": 1e-3, "c": float("nan")}})
    assert [line.split(":")[0] for line in lines] == [f"{name} is wrong at 2x4, 32x24" for name in "bc"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    small = ["--runs", "1", "--threads", "1", "--zeros", "0.05", "--batches", "2x4", "--shapes", "32x24"]
    assert main(["masked_linear", "--json", str(out), *small]) == 0
    report = json.loads(out.read_text())
    assert report["results"][0]["ratios"]["N dense copies"]["min"] > 0
    assert report["machine"]["versions"]["torch"]
    assert "| 1 | 0.05 | 2x4 | 32x24 |" in capsys.readouterr().out
