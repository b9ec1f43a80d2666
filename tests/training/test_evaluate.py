import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mask_store import TaskKind
from tests.support.learning_data import ROWS, partners, tiny_options, write_lines
from training.evaluate import main
from training.runs.learn import learn


@pytest.fixture(scope="module", params=list(ROWS))
def learned(request: pytest.FixtureRequest, tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kind, command line and report of a task of each kind."""
    folder, kind = tmp_path_factory.mktemp("learned"), request.param
    report = learn(tiny_options(folder, tiny_bert, kind, epochs=6, force=True))
    line = ["--task", "demo", "--store", str(folder / "store"), "--base", tiny_bert, "--precision", "fp32"]
    return kind, [*line, "--file", str(folder / "dev.jsonl")], report


def _json(capsys: pytest.CaptureFixture[str], line: Sequence[str]) -> Any:
    assert main([*line, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_metrics_are_those_that_learning_published(
    learned: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, line, report = learned
    found = _json(capsys, line)
    assert (found["kind"], found["version"], found["digest"]) == (kind, report.version, report.digest)
    assert found["metric"] == report.metric
    assert found["metrics"] == pytest.approx(report.metrics, abs=1e-4)
    assert found["examples"] == 16


def test_text_and_picture(learned: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, line, report = learned
    assert main([*line, "--picture", str(tmp_path / "p.png")]) == 0
    told = capsys.readouterr().out
    assert f"demo version 1 on 16 examples of {line[-1]}" in told
    assert f"{report.metric} {report.value:.4f}" in told
    assert "baseline: " in told
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture(scope="module")
def reviews(tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("reviews")
    learn(tiny_options(folder, tiny_bert, epochs=1, force=True))
    rows = [*ROWS["sequence-classification"](30, seed=2), {"text": " ", "label": "positive"}]
    file = str(write_lines(folder / "test.jsonl", rows))
    line = ["--task", "demo", "--store", str(folder / "store"), "--base", tiny_bert, "--precision", "fp32"]
    return [*line, "--file", file]


def test_figures_of_labels_and_confusions_are_those_of_sklearn(
    reviews: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = _json(capsys, [*reviews, "--worst", "1000"])
    labels = [one["label"] for one in found["classes"]]
    pairs = [(one["truth"], one["predicted"]) for one in found["confusion"] for _ in range(one["count"])]
    truth, predicted = zip(*pairs, strict=True)
    figures = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    for number, name in enumerate(("precision", "recall", "f1", "count")):
        assert [one[name] for one in found["classes"]] == pytest.approx(list(figures[number]))
    matrix = confusion_matrix(truth, predicted, labels=labels)
    assert matrix.sum() == found["examples"] == 30
    assert found["unusable"] == 1
    assert found["metrics"]["accuracy"] == pytest.approx(np.trace(matrix) / 30)
    assert len(found["worst"]) == 30 - np.trace(matrix)
    scores = [one["score"] for one in found["worst"]]
    assert scores == sorted(scores, reverse=True)
    bins = found["bins"]
    assert sum(one["count"] for one in bins) == 30
    assert found["calibration_error"] == pytest.approx(
        sum(one["count"] * abs(one["confidence"] - one["accuracy"]) for one in bins) / 30
    )


def test_embeddings_are_measured_beside_the_bare_base(
    tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = str(write_lines(tmp_path / "pairs.jsonl", partners(20)))
    found = tiny_options(tmp_path, tiny_bert, "embedding", train=pairs, dev=pairs, epochs=1, pooling="cls")
    report = learn(found)
    assert (report.metric, set(report.metrics)) == ("accuracy", {"accuracy", "mrr"})
    line = ["--task", "demo", "--store", str(found.store), "--base", tiny_bert, "--precision", "fp32"]
    measured = _json(capsys, [*line, "--file", pairs, "--worst", "3"])
    assert measured["metrics"] == pytest.approx(report.metrics, abs=1e-6)
    assert measured["baseline_answer"] == "the base without a mask"
    assert 0 < measured["baseline"] <= 1
    assert len(measured["worst"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--task", "nothing"], "nothing"),
        (["--version", "7"], "7"),
        (["--tags-column", "t"], "--tags-column: not a column of a task of sequence-classification"),
        (["--label-column", "t"], "no column 't'"),
        (["--pair-column", "label"], "the task takes one text, found 'text' and 'label'"),
        (["--file", "absent.jsonl"], "absent.jsonl"),
        (["--picture", "/absent/p.png"], "--picture /absent/p.png"),
    ],
)
def test_mistakes_are_told(
    reviews: list[str], capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    assert main([*reviews, *change]) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_label_that_the_task_does_not_know_is_told_by_line(
    reviews: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [{"text": "good", "label": "positive"}, {"text": "good", "label": "mixed"}]
    file = str(write_lines(tmp_path / "other.jsonl", rows))
    assert main([*reviews, "--file", file]) == 2
    assert "other.jsonl:2: the task has no label 'mixed'" in capsys.readouterr().err


def test_what_a_file_decides_about_its_numbers_is_told(
    tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind: TaskKind = "multiple-choice"
    learn(tiny_options(tmp_path, tiny_bert, kind, epochs=1, force=True))
    rows = [{**row, "label": row["label"] + 1} for row in ROWS[kind](8, seed=3)]
    rows[0]["label"] = len(rows[0]["choices"])
    file = str(write_lines(tmp_path / "from-one.jsonl", rows))
    assert (
        main(["--task", "demo", "--store", str(tmp_path / "store"), "--base", tiny_bert, "--file", file]) == 0
    )
    assert f"{file}: labels count from 1 (" in capsys.readouterr().err


def test_kinds_without_labels_have_no_label_figures(learned: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kind: TaskKind = learned[0]
    found = _json(capsys, learned[1])
    labelled = kind in ("sequence-classification", "token-classification", "multi-label-classification")
    assert bool(found["classes"]) == labelled
    assert bool(found["confusion"]) == (labelled and kind != "multi-label-classification")
    assert (found["calibration_error"] is None) == (kind in ("regression", "embedding"))
