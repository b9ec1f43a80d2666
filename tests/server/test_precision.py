"""Precision of a server: chosen or refused at start, and named by all that it answers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mask_store import MaskStore
from masking import Base
from masking.kernels import Precision
from masking.kernels.cpu.processor import lacks, processor_name
from server.build import build_service
from server.settings import Settings, SettingsError
from tests.masking.kernels.conftest import needs_kernels
from tests.support.kernels.cases import NARROW
from tests.support.serving import EXACT, SPECS, TEXT, expected_scores, fill, scores_in, serving, settings_of

LACKS = "needs a processor with AVX512-BF16, and this one has AVX2"
FAR = {"fp32": 1e-6, "bf16": 0.02, "int8": 0.05}  # scores of a task and those of fp32
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
CALLS = {
    "/predict/sentiment": {"inputs": TEXT},
    "/hf/sentiment": {"inputs": TEXT},
    "/predict/names": {"tokens": ["anna", "works"]},
    "/predict/endings": {"context": TEXT, "choices": ["a", "b"]},
    "/predict": {"inputs": [{"task": "sentiment", "inputs": TEXT}]},
    "/v2/models/sentiment/infer": {"inputs": [TENSOR]},
}
TWO = ["fp32", NARROW[0]]


@pytest.fixture(scope="module")
def place(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    fill(place, base)
    return place


@pytest.fixture(scope="module", params=["fp32", *NARROW])
def precision(request: pytest.FixtureRequest) -> Precision:
    chosen: Precision = request.param
    return chosen


@pytest.fixture(scope="module")
def client(base: Base, place: Path, precision: Precision) -> Iterator[TestClient]:
    with serving(base, place, precision=precision, admin_key="secret") as client:
        yield client


@pytest.mark.parametrize("path", CALLS)
def test_every_prediction_names_it(client: TestClient, precision: Precision, path: str) -> None:
    reply = client.post(path, json=CALLS[path])
    assert (reply.status_code, reply.headers["x-precision"]) == (200, precision)


def test_refused_predictions_name_it(client: TestClient, precision: Precision) -> None:
    for path in ("/predict/sentiment", "/predict"):
        reply = client.post(path, json={"nothing": 1})
        assert (reply.status_code, reply.headers["x-precision"]) == (422, precision)


def test_every_description_of_a_task_names_it(client: TestClient, precision: Precision) -> None:
    assert [task["precision"] for task in client.get("/tasks").json()["tasks"]] == [precision] * len(SPECS)
    assert client.get("/tasks/names").json()["precision"] == precision
    key = {"authorization": "Bearer secret"}
    assert client.post("/tasks/names/load", headers=key).json()["precision"] == precision
    dtype = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}[precision]
    for path in ("/info", "/predict/names/info"):
        assert client.get(path).json()["model_dtype"] == dtype


def test_memory_counts_the_base_in_every_form(client: TestClient, base: Base, precision: Precision) -> None:
    report = client.get("/memory").json()
    held = report["base"]
    assert (report["precision"], held["bytes"]) == (precision, base.nbytes)
    assert (held["lines_bytes"] > 0) == (not lacks(precision))
    assert held["resident_bytes"] == held["bytes"] + held["lines_bytes"]
    tasks = sum(task["resident_bytes"] for task in report["tasks"].values())
    assert report["total"]["resident_bytes"] == held["resident_bytes"] + tasks
    lines = client.get("/metrics").text.splitlines()
    for form, name in (("base", "bytes"), ("lines", "lines_bytes")):
        assert f'maskserve_bytes{{form="{form}"}} {float(held[name])}' in lines


def test_scores_are_near_those_of_fp32(
    client: TestClient, base: Base, place: Path, precision: Precision
) -> None:
    scores = scores_in(client.post("/predict/sentiment", json={"inputs": TEXT}).json())
    exact = expected_scores(base, MaskStore.open(place).load("sentiment"))
    assert scores == pytest.approx(exact, abs=FAR[precision])
    assert max(scores, key=scores.__getitem__) == max(exact, key=exact.__getitem__)


@pytest.mark.parametrize("precision", TWO)
def test_the_log_names_precision_and_processor(
    base: Base, place: Path, precision: Precision, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "server.build"):
        build_service(settings_of(place, precision=precision), base=base)
    assert f"precision {precision}, on {processor_name()}" in caplog.text
    assert "auto" not in caplog.text


@needs_kernels
@pytest.mark.parametrize(
    ("lacking", "kernels", "told"),
    [
        ("", "auto", "bf16: bf16 is multiplied natively here"),
        (LACKS, "auto", f"fp32: bf16 {LACKS}"),
        ("", "off", "fp32: without kernels there is no other"),
    ],
)
def test_auto_is_bf16_where_the_processor_has_it_and_says_why(
    base: Base,
    place: Path,
    lacking: str,
    kernels: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("masking.kernels.precision.lacks", lambda _: lacking)
    with caplog.at_level("INFO", "server.build"):
        service = build_service(settings_of(place, precision="auto", kernels=kernels), base=base)
    assert f"--precision auto is {told}\n" in caplog.text
    assert service.precision == service.weights.precision == told.partition(":")[0]


def test_what_the_processor_lacks_is_refused_before_the_base_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masking.kernels.precision.lacks", lambda _: LACKS)
    with pytest.raises(SettingsError, match=r"--precision bf16: needs .* this device has fp32") as refused:
        build_service(Settings(base="./nowhere", store=str(place), device="cpu", precision="bf16"))
    assert "\n" not in str(refused.value)


def test_a_command_is_refused_with_one_line_and_exit_code_2(tiny_bert: str, place: Path) -> None:
    command = [sys.executable, "-m", "server", "--base", tiny_bert, "--store", str(place), "--port", "0"]
    done = subprocess.run(
        [*command, "--device", "cpu", "--precision", "tf32x3", "--log-level", "error"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("python -m server: --precision tf32x3: needs CUDA; this device has fp32")


def test_tests_compare_with_fp32(base: Base, place: Path) -> None:
    assert build_service(settings_of(place), base=base).precision == EXACT == "fp32"
