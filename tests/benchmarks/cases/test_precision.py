import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.precision import COPY, MASKS
from mask_store import MaskStore, ensemble_of
from masking import Base, TaskSpec
from masking.kernels.cpu.processor import lacks, processor_name
from tests.masking.kernels.conftest import needs_kernels
from tests.support.learning_data import entities, reviews, stories, write_lines
from tests.support.models import random_bundle

SPECS = {
    "mood": TaskSpec("sequence-classification", ("negative", "positive"), max_length=32),
    "names": TaskSpec("token-classification", ("B-LOC", "B-ORG", "B-PER", "O"), max_length=32),
    "story": TaskSpec("multiple-choice", (), max_length=32),
}
NARROW = [one for one in ("bf16", "int8") if not lacks(one)]


@pytest.fixture
def place(base: Base, tmp_path: Path) -> Path:
    """A store: a task of every kind, an ensemble, and one without data; and the others' dev rows."""
    store = MaskStore.open(str(tmp_path / "store"), create=True)
    bundles = [random_bundle(base, spec, task=name, seed=1) for name, spec in SPECS.items()]
    members = [random_bundle(base, SPECS["mood"], task="mood", seed=seed) for seed in (2, 3)]
    bundles.append(ensemble_of("moods", "logits", [(None, one) for one in members]))
    bundles.append(random_bundle(base, SPECS["mood"], task="nothing"))
    for bundle in bundles:
        store.publish(bundle)
    write_lines(tmp_path / "mood-dev.jsonl", reviews(12))
    write_lines(tmp_path / "moods-dev.jsonl.gz", reviews(12))
    (tmp_path / "names").mkdir()
    write_lines(tmp_path / "names" / "dev.jsonl", entities(10))
    (tmp_path / "story").mkdir()
    write_lines(tmp_path / "story" / "dev.jsonl.gz", stories(9))
    return tmp_path


def run(base: str, place: Path, *more: str) -> int:
    return main(["precision", "--base", base, "--store", str(place / "store"), "--data", str(place), *more])


def chosen(results: Sequence[dict[str, Any]], form: str, precision: str) -> dict[str, dict[str, Any]]:
    return {one["task"]: one for one in results if (one["form"], one["precision"]) == (form, precision)}


@needs_kernels
def test_every_kind_in_every_precision(
    tiny_bert: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "out.json"
    assert run(tiny_bert, place, "--json", str(out)) == 0
    report = json.loads(out.read_text())
    results = report["results"]
    masks, copies = chosen(results, MASKS, "fp32"), chosen(results, COPY, "fp32")
    assert masks.keys() == copies.keys() == {"mood", "names", "story", "moods"}
    assert [masks[name]["inputs"] for name in ("mood", "names", "story")] == [12, 10, 9]
    assert masks["names"]["metric"] == "accuracy"
    for one in (*masks.values(), *copies.values()):
        assert (one["points"], one["same_labels"]) == (0, 1)
        assert one["largest"] < 1e-5
    for precision in NARROW:
        for one in chosen(results, MASKS, precision).values():
            assert 0 < one["mean"] <= one["largest"] < 0.1
            assert one["same_labels"] > 0.8
            assert one["points"] == pytest.approx(100 * (one["value"] - masks[one["task"]]["value"]))
    assert all(0 < one["largest"] < 0.1 for one in chosen(results, COPY, "bf16").values())
    means = {(one["form"], one["precision"]): one for one in report["means"]}
    assert means.keys() == {
        (MASKS, "fp32"),
        (COPY, "fp32"),
        (COPY, "bf16"),
        *((MASKS, one) for one in NARROW),
    }
    assert all(one["tasks"] == 4 for one in means.values())
    assert report["processor"] == processor_name()
    printed = capsys.readouterr().out
    assert "Without dev rows, so not measured: nothing." in printed
    assert "| mean of 4 | folded copy | bf16 |" in printed
    if "int8" in NARROW:
        assert "int8: 0 of 18 layers are kept wider" in printed


def test_some_tasks_precisions_and_rows(
    tiny_bert: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "out.json"
    few = ["--tasks", "names", "--precisions", "fp32", "--rows", "3", "--json", str(out)]
    assert run(tiny_bert, place, *few) == 0
    results = json.loads(out.read_text())["results"]
    assert [(one["task"], one["form"], one["inputs"]) for one in results] == [
        ("names", MASKS, 3),
        ("names", COPY, 3),
    ]
    assert "kept wider" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", "nothing"], "has no dev rows of task 'nothing'; looked for nothing/dev.jsonl, "),
        (["--tasks", "other"], "the store has no task 'other'; it has mood, "),
        (["--data", "elsewhere"], "elsewhere has no dev rows of task 'mood'"),
        (["--store", "elsewhere"], "elsewhere"),
    ],
)
def test_what_is_not_there_is_one_line(
    more: list[str], message: str, tiny_bert: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_bert, place, *more) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_label_that_the_task_does_not_know_is_named(
    tiny_bert: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(place / "mood-dev.jsonl", [*reviews(3), {"text": "good", "label": "so so"}])
    assert run(tiny_bert, place, "--tasks", "mood") == 1
    assert "mood-dev.jsonl:4: the task has no label 'so so'; it has 'negative', 'positive'" in (
        capsys.readouterr().err
    )


def test_no_row_is_no_number_of_rows(tiny_bert: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tiny_bert, place, "--rows", "0")
    assert "must be at least 1" in capsys.readouterr().err
