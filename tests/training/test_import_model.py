"""Commands ``import`` and ``export``: from a finetuned folder to a task, and back to a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import pipeline

import maskserve
from mask_store import MaskStore, SignManifest, TaskKind, TaskManifest
from masking import Base, TaskSpec
from masking.architectures.heads import CLASSES
from tests.support.learning_data import ROWS, alike, entities, reviews, write_lines
from tests.support.models import COPY_LABELS, finetuned, random_bundle
from training.copies.importing import FACTORS
from training.export_model import main as export_main
from training.import_model import main, task_name

TEXTS = ["the movie was great", "terrible plot !", "anna lost her money in london"]


@pytest.fixture
def copy(tiny_bert: str, tmp_path: Path) -> str:
    return finetuned(tiny_bert, tmp_path / "My Copy", "sequence-classification")


def command(tmp_path: Path, base: str, *further: str) -> list[str]:
    return ["--base", base, "--store", str(tmp_path / "store"), *further]


def test_a_copy_is_published_and_compared_on_text_without_answers(
    tmp_path: Path, tiny_bert: str, copy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_lines(tmp_path / "text.jsonl", [{"text": one} for one in TEXTS])
    options = command(tmp_path, tiny_bert, "--model", copy, "--task", "mood", "--text", str(text))
    assert main(options) == 0
    printed = capsys.readouterr().out
    for expected in ("mood version 1, of My Copy over tiny-bert", "3 labels", " of 3 labels (", "not kept"):
        assert expected in printed
    assert "accuracy" not in printed
    manifest = MaskStore.open(tmp_path / "store").load("mood").manifest
    assert isinstance(manifest, SignManifest)
    assert (manifest.metrics, manifest.evaluation) == ({}, None)
    assert manifest.labels == COPY_LABELS
    assert manifest.settings["factor"] in FACTORS


def test_answers_are_measured(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = entities(6)
    tags = sorted({tag for row in rows for tag in row["tags"]})
    model = finetuned(
        *(tiny_bert, tmp_path / "copy", "token-classification"),
        id2label=dict(enumerate(tags)),
        label2id={tag: number for number, tag in enumerate(tags)},
    )
    text = write_lines(tmp_path / "text.jsonl", rows)
    options = command(tmp_path, tiny_bert, "--model", model, "--task", "names", "--text", str(text), "--json")
    assert main(options) == 0
    report = json.loads(capsys.readouterr().out)
    compared = report["compared"]
    assert compared["agreement"]["answers"] == sum(len(row["tokens"]) for row in rows)
    assert compared["copy_metrics"].keys() == compared["task_metrics"].keys() >= {"accuracy", "f1"}
    manifest = MaskStore.open(tmp_path / "store").load("names").manifest
    assert manifest.metrics == compared["task_metrics"]
    assert manifest.evaluation is not None
    assert (manifest.evaluation.metric, manifest.evaluation.examples) == ("f1", len(rows))
    confusion = manifest.evaluation.confusion
    right, answers = sum(row[place] for place, row in enumerate(confusion)), sum(map(sum, confusion))
    assert answers == compared["agreement"]["answers"]
    assert right / answers == pytest.approx(compared["task_metrics"]["accuracy"])


def test_a_folder_of_copies_is_a_table_and_what_is_refused_is_told(
    tmp_path: Path, tiny_bert: str, copy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = tmp_path / "copies"
    finetuned(tiny_bert, copies / "Endings", "multiple-choice")
    finetuned(tiny_bert, copies / "moods", "sequence-classification")
    refused = finetuned(tiny_bert, copies / "far", "sequence-classification", step=1.0)
    assert main(command(tmp_path, tiny_bert, "--models", str(copies), "--factor", "1")) == 1
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["task", "endings", "moods"]
    assert f"refused: model {Path(refused).name!r}: it was not finetuned from base" in printed.err
    assert sorted(MaskStore.open(tmp_path / "store").tasks()) == ["endings", "moods"]


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["--model", "COPY"], "--task missing"),
        (["--model", "COPY", "--task", "a", "--factor", "0"], "--factor 0: must be above 0"),
        (["--model", "COPY", "--task", "a", "--max-length", "99"], "--max-length 99: the model takes 64"),
        (["--model", "COPY", "--task", "a", "--text", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--models", "nowhere"], "--models nowhere: no folders"),
        (["--models", "nowhere", "--as", "mask"], "--as mask goes with --model alone"),
        (["--model", "COPY", "--task", "a", "--as", "mask"], "--as mask needs --text"),
        (["--model", "COPY", "--task", "a", "--epochs", "3"], "--epochs goes with --as mask"),
        (
            ["--model", "COPY", "--task", "a", "--as", "mask", "--text", "a.jsonl", "--epochs", "0"],
            "--epochs 0: must be at least 1",
        ),
        (["--model", "nowhere/at/all", "--task", "a"], "there is no such folder"),
    ],
)
def test_mistakes(
    tmp_path: Path, tiny_bert: str, copy: str, further: list[str], message: str, capsys: Any
) -> None:
    given = [copy if one == "COPY" else one for one in further]
    assert main(command(tmp_path, tiny_bert, *given)) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def learned(tmp_path: Path, base: str, model: str, *further: str) -> list[str]:
    run = str(tmp_path / "run")
    options = ("--as", "mask", "--run-dir", run, "--lr", "0.01", "--json")
    return command(tmp_path, base, "--model", model, "--task", "mood", *options, *further)


def test_a_mask_is_learned_from_answers_to_text_without_labels(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = finetuned(tiny_bert, tmp_path / "My Copy", "sequence-classification", seed=2)  # two labels of 3
    rows = [{"text": row["text"]} for row in reviews(60)]
    text = write_lines(tmp_path / "text.jsonl", rows)
    far, near = (
        [*learned(tmp_path, tiny_bert, copy, "--text", str(text), "--fit", str(text)), "--epochs", epochs]
        for epochs in ("1", "12")
    )
    assert main(far) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(near) == 0
    second = json.loads(capsys.readouterr().out)
    agreements = [one["compared"]["agreement"] for one in (first, second)]
    assert agreements[1]["divergence"] < agreements[0]["divergence"]
    manifest = MaskStore.open(tmp_path / "store").load("mood").manifest
    assert isinstance(manifest, TaskManifest)
    assert (manifest.metric, manifest.training["distilled_from"]) == ("agreement", "My Copy")
    assert manifest.metrics["agreement"] == agreements[1]["equal"] / agreements[1]["answers"]
    assert second["factor"] is None
    assert "learned on 60 inputs" in second["made"]


def test_a_mask_of_labelled_text_is_evaluated(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = finetuned(tiny_bert, tmp_path / "My Copy", "sequence-classification", seed=2)  # two labels of 3
    rows = [{"text": row["text"], "label": COPY_LABELS[number % 2]} for number, row in enumerate(reviews(60))]
    text = str(write_lines(tmp_path / "text.jsonl", rows))
    assert main([*learned(tmp_path, tiny_bert, copy, "--text", text, "--fit", text), "--epochs", "1"]) == 0
    compared = json.loads(capsys.readouterr().out)["compared"]
    manifest = MaskStore.open(tmp_path / "store").load("mood").manifest
    assert isinstance(manifest, TaskManifest)
    assert manifest.evaluation is not None
    assert (manifest.metric, manifest.evaluation.metric) == ("agreement", "accuracy")
    assert manifest.metrics == {"agreement": manifest.metrics["agreement"], **compared["task_metrics"]}


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind != "sequence-classification"])
def test_of_one_text_a_tenth_chooses(
    tmp_path: Path, tiny_bert: str, kind: TaskKind, capsys: pytest.CaptureFixture[str]
) -> None:
    model = finetuned(tiny_bert, tmp_path / "copy", kind)
    unasked = ("tags", "label", "labels", "score", "relevance")
    rows = [{name: row[name] for name in row if name not in unasked} for row in ROWS[kind](20)]
    text = write_lines(tmp_path / "text.jsonl", rows)
    assert main(learned(tmp_path, tiny_bert, model, "--text", str(text), "--epochs", "1")) == 0
    report = json.loads(capsys.readouterr().out)
    manifest = MaskStore.open(tmp_path / "store").load("mood").manifest
    assert isinstance(manifest, TaskManifest)
    training = manifest.training
    different = len({json.dumps(row) for row in rows})
    learned_on, chosen_by = (int(training[f"{name}_examples"] or 0) for name in ("train", "dev"))
    assert learned_on + chosen_by == len(rows)
    assert chosen_by >= round(different / 10)
    assert report["compared"]["source"].endswith("text.jsonl (10% of it)")


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("multi-label-classification", "f1_micro"), ("regression", "pearson"), ("reranking", "ndcg")],
)
def test_answers_without_classes_are_measured(
    tmp_path: Path, tiny_bert: str, kind: TaskKind, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"id2label": dict(enumerate(["blame", "place", "praise"]))}
    config: Any = {"multi-label-classification": names, "regression": {"num_labels": 1}}.get(kind, {})
    model = finetuned(tiny_bert, tmp_path / "copy", kind, **config)
    text = write_lines(tmp_path / "text.jsonl", ROWS[kind](20))
    options = command(tmp_path, tiny_bert, "--model", model, "--task", "a", "--text", str(text), "--json")
    assert main(options) == 0
    report = json.loads(capsys.readouterr().out)
    compared = report["compared"]
    assert report["kind"] == kind
    assert compared["copy_metrics"].keys() == compared["task_metrics"].keys() >= {metric}
    evaluation = MaskStore.open(tmp_path / "store").load("a").manifest.evaluation
    assert evaluation is not None
    assert evaluation.examples == 20
    answers = 60 if kind == "multi-label-classification" else 20
    assert compared["agreement"]["answers"] == answers
    assert (compared["agreement"]["equal"] is None) == (kind == "regression")


def test_the_base_itself_becomes_a_task_of_embeddings(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_lines(tmp_path / "text.jsonl", alike(8))
    options = ("--model", tiny_bert, "--task", "semantic", "--pooling", "mean", "--text", str(text))
    assert main(command(tmp_path, tiny_bert, *options)) == 0
    printed = capsys.readouterr().out
    assert "of no bits: the model's encoder is the base's own" in printed
    assert "cosine of 16 embeddings 1.0000, 1.0000 at the least" in printed
    assert "spearman" in printed
    manifest = MaskStore.open(tmp_path / "store").load("semantic").manifest
    assert isinstance(manifest, SignManifest)
    assert (manifest.kind, manifest.pooling, manifest.pair) == ("embedding", "mean", False)
    assert manifest.evaluation is not None
    assert manifest.metrics["spearman"] == pytest.approx(manifest.evaluation.baseline)
    assert manifest.evaluation.baseline_answer == "the base without a mask"
    tasks = maskserve.load(tiny_bert, store=tmp_path / "store", precision="fp32")
    folder = tmp_path / "exported"
    assert export_main(command(tmp_path, tiny_bert, "--task", "semantic", "--to", str(folder))) == 0
    extract: Any = pipeline("feature-extraction", model=str(folder))
    tokens = np.array(extract(TEXTS[0])[0])
    mean = tokens.mean(0) / np.linalg.norm(tokens.mean(0))
    np.testing.assert_allclose(tasks("semantic", TEXTS[0]), mean, atol=1e-5)


def test_a_sentence_encoder_becomes_signs_or_a_mask(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = finetuned(tiny_bert, tmp_path / "copy", "embedding")
    text = write_lines(tmp_path / "text.jsonl", alike(40))
    options = ("--model", model, "--pooling", "cls", "--text", str(text), "--json")
    assert main(command(tmp_path, tiny_bert, *options, "--task", "signs", "--fit", str(text))) == 0
    signs = json.loads(capsys.readouterr().out)
    assert signs["fitted"]
    assert signs["compared"]["agreement"]["divergence"] < 0.02
    assert signs["compared"]["copy_metrics"].keys() == {"spearman", "pearson"}
    learned_alike = [*learned(tmp_path, tiny_bert, model, *options), "--epochs", "2"]
    assert main(learned_alike) == 0
    mask = json.loads(capsys.readouterr().out)
    manifest = MaskStore.open(tmp_path / "store").load("mood").manifest
    assert isinstance(manifest, TaskManifest)
    assert (manifest.kind, manifest.pooling, manifest.head) == ("embedding", "cls", ())
    apart = mask["compared"]["agreement"]["divergence"]
    assert manifest.metrics["agreement"] == pytest.approx(1 - apart, abs=1e-4)


def test_changed_rows_of_embeddings_travel_where_that_is_asked_for(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = finetuned(tiny_bert, tmp_path / "copy", "sequence-classification", tokens=(5, 9, 21))
    text = write_lines(tmp_path / "text.jsonl", [{"text": one} for one in TEXTS])
    found = {}
    for embeddings in ("base", "changed"):
        options = ("--model", model, "--task", embeddings, "--embeddings", embeddings, "--json")
        assert main(command(tmp_path, tiny_bert, *options, "--text", str(text), "--factor", "1")) == 0
        found[embeddings] = json.loads(capsys.readouterr().out)
    assert [one["embedding_rows"] for one in found.values()] == [0, 3]
    assert found["changed"]["embedding_bytes"] == 3 * 32 * 4 + 16
    lost = [one["lost"] for one in found.values()]
    assert lost[0][0] == "embeddings.word_embeddings.weight"
    assert lost[0][1] > lost[1][1] == 0.0
    apart = [one["compared"]["agreement"]["divergence"] for one in found.values()]
    assert apart[1] < apart[0]
    kept = ("--embeddings", "changed", "--as", "mask", "--text", str(text))
    assert main(command(tmp_path, tiny_bert, "--model", model, "--task", "a", *kept)) == 2
    assert "--embeddings changed goes with --as sign" in capsys.readouterr().err


def test_names_of_tasks() -> None:
    assert task_name("My Model_v2 (final)") == "my-model_v2-final"
    assert task_name("...") == "task"


def test_signs_and_masks_come_back_as_folders_that_answer_alike(
    tmp_path: Path, tiny_bert: str, base: Base, copy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MaskStore.open(tmp_path / "store", create=True)
    assert main(command(tmp_path, tiny_bert, "--model", copy, "--task", "signs", "--factor", "1.5")) == 0
    spec = TaskSpec("sequence-classification", ("no", "perhaps", "yes"), max_length=32)
    store.publish(random_bundle(base, spec, task="mask"))
    served = maskserve.load(base, store=store, precision="fp32")
    for task in ("signs", "mask"):
        folder = tmp_path / f"{task}-exported"
        assert export_main(command(tmp_path, tiny_bert, "--task", task, "--to", str(folder))) == 0
        classify: Any = pipeline("text-classification", model=str(folder), top_k=None)
        for text in TEXTS:
            ours = {one["label"]: one["score"] for one in served(task, text)}
            theirs = {one["label"]: one["score"] for one in classify([text])[0]}
            assert ours.keys() == theirs.keys()
            np.testing.assert_allclose([ours[label] for label in theirs], list(theirs.values()), atol=1e-5)
    assert f"signs version 1 is in {tmp_path / 'signs-exported'}" in capsys.readouterr().out.replace("'", "")
    again = command(tmp_path, tiny_bert, "--task", "mask", "--to", str(tmp_path / "mask-exported"))
    assert export_main(again) == 2
    assert "is there already" in capsys.readouterr().err


def test_reviews_are_pairs_where_the_text_has_pairs(
    tmp_path: Path, tiny_bert: str, copy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": row["text"], "text_pair": "it was"} for row in reviews(3)]
    text = write_lines(tmp_path / "text.jsonl", rows)
    options = command(tmp_path, tiny_bert, "--model", copy, "--task", "mood", "--text", str(text))
    assert main(options) == 0
    assert MaskStore.open(tmp_path / "store").load("mood").manifest.pair
