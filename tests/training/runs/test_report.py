import json
import shlex

import pytest

from tests.support.learning_data import evaluation_of
from training.loop.history import EpochRecord
from training.runs.report import MaskReport, SetReport, human_seconds


@pytest.fixture
def report() -> MaskReport:
    return MaskReport(
        task="trec",
        kind="sequence-classification",
        labels=("a", "b"),
        base="bert-base-uncased",
        device="cpu",
        store="masks",
        version=3,
        digest="sha256:" + "a" * 64,
        metric="accuracy",
        metrics={"accuracy": 0.954, "matthews_correlation": 0.9},
        best_epoch=1,
        resumed_after=0,
        epochs=(EpochRecord(1, 0.5, {"accuracy": 0.954, "matthews_correlation": 0.9}, 0.07, 0.03),),
        zeros_start=0.05,
        zeros_end=0.07,
        flipped=0.03,
        bundle_bytes=2_500_000,
        mask_bits=71_368_704,
        mask_bytes=8_921_088,
        finetuned_bytes=437_928_960,
        seconds=65.0,
        train=SetReport("train.jsonl", 4904, 0, ()),
        dev=SetReport("dev.jsonl", 548, 0, ()),
        request={"inputs": "What's a caf\u00e9 ?\n"},
        evaluation=evaluation_of(),
    )


def test_the_text_has_the_figures(report: MaskReport) -> None:
    text = str(report)
    for expected in (
        "trec version 3 in masks",
        "accuracy 0.9540, matthews_correlation 0.9000 on 548 examples (best epoch 1 of 1)",
        "5.00% at the start, 7.00% now; 3.00% of the bits flipped",
        "2.5 MB on disk; 71,368,704 mask bits = 8.9 MB in memory",
        "a finetuned copy takes 437.9 MB, 175 times the file",
        "1 min 05 s on cpu",
        "baseline   'a' for everything has accuracy 0.5000",
        "calibration error 0.0500",
        "b taken for a: 3",
        "line 7: a, predicted b (0.9000): <b>odd</b> & bad",
    ):
        assert expected in text


def test_the_curl_line_survives_a_shell(report: MaskReport) -> None:
    assert report.curl.isascii()
    parts = shlex.split(report.curl)
    assert parts[2].endswith("/predict/trec")
    assert json.loads(parts[-1]) == report.request


def test_the_report_is_json(report: MaskReport) -> None:
    values = json.loads(json.dumps(report.to_dict()))
    assert values["ratio"] == pytest.approx(175.17)
    assert values["epochs"][0]["metrics"]["accuracy"] == report.value
    assert values["curl"] == report.curl


def test_durations_are_written_for_people() -> None:
    assert [human_seconds(s) for s in (4.21, 59.4, 200, 3900)] == [
        "4.2 s",
        "59.4 s",
        "3 min 20 s",
        "1 h 05 min",
    ]
