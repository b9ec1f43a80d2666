import errno
import json
from pathlib import Path
from typing import Any

import pytest

from mask_store import (
    InvalidTaskNameError,
    MaskBundle,
    MaskStore,
    StoreFormatError,
    StoreFullError,
    StoreNotWritableError,
    TaskKind,
    TaskManifest,
    VersionInfo,
)
from masking import Base, BaseLoadError, WordsInput, load_base
from tests.support.callbacks import Killed, KillInEpoch
from tests.support.learning_data import ROWS, pairs, tiny_options, write_lines
from tests.support.models import tiny_base
from training.errors import LabelError, OptionsError, PublishError, RunMismatchError
from training.loop.run_folder import RunFolder
from training.options import EXTRA_SETTINGS
from training.runs import preparation
from training.runs.learn import learn, learn_bundle
from training.runs.preparation import prepare

METRICS_CHOSEN = {
    "token-classification": "f1",
    "multi-label-classification": "f1_micro",
    "regression": "pearson",
    "reranking": "average_precision",
    "embedding": "spearman",
}


def _masks(store: str, number: int) -> dict[str, bytes]:
    (member,) = MaskStore.open(store).load("demo", number).members
    return {name: mask.tobytes() for name, mask in member.masks.items()}


@pytest.mark.parametrize("kind", list(ROWS))
def test_every_kind_is_learned_and_published(tmp_path: Path, tiny_bert: str, kind: TaskKind) -> None:
    options = tiny_options(tmp_path, tiny_bert, kind)
    report = learn(options)

    bundle = MaskStore.open(str(options.store)).load("demo")
    manifest = bundle.manifest
    assert isinstance(manifest, TaskManifest)
    assert (report.version, report.digest) == (1, bundle.digest)
    assert (manifest.kind, manifest.max_length, manifest.seed) == (kind, 32, 0)
    assert manifest.metrics == report.metrics
    assert manifest.metric == METRICS_CHOSEN.get(kind, "accuracy")
    assert (manifest.thresholds is not None) == (kind == "multi-label-classification")
    assert manifest.training["lr"] == 5e-3
    assert manifest.training["best_epoch"] == report.best_epoch
    assert manifest.data_digest.startswith("sha256:")
    assert report.bundle_bytes == len(bundle.to_bytes())
    assert report.mask_bits == manifest.mask_bits
    assert 0.0 < report.flipped < 1.0
    assert report.zeros_start == pytest.approx(0.05, abs=0.02)
    assert (report.train.used, report.dev.used) == (48, 16)


def test_pairs_are_seen_by_their_column(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, train=str(write_lines(tmp_path / "p.jsonl.gz", pairs(24))))
    options = tiny_options(
        tmp_path,
        tiny_bert,
        train=options.train,
        dev=str(write_lines(tmp_path / "q.jsonl", pairs(8, seed=1))),
        epochs=1,
    )
    report = learn(options)
    manifest = MaskStore.open(str(options.store)).load("demo").manifest
    assert manifest.pair
    assert manifest.labels == ("0", "1")
    assert isinstance(report.request["inputs"], list)


def test_a_random_pooler_is_learned_over_and_travels(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "bert", pooler=False)
    options = tiny_options(tmp_path, base, epochs=1)
    learn(options)
    assert "pooler.dense.weight" in MaskStore.open(str(options.store)).load("demo").members[0].head


def test_a_trained_head_is_published_as_it_was_learned(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, epochs=1, head="trained")
    learn(options)
    (member,) = MaskStore.open(str(options.store)).load("demo").members
    assert "classifier" not in member.masks
    assert "classifier.weight" in member.head


def test_what_goes_beyond_the_paper_is_published_and_recorded(tmp_path: Path, tiny_bert: str) -> None:
    extras: dict[str, Any] = {"average": 0.9, "final_sparsity": 0.3, "head": "trained", "head_lr": 1e-3}
    options = tiny_options(tmp_path, tiny_bert, **extras)
    report = learn(options)
    manifest = MaskStore.open(str(options.store)).load("demo").manifest
    assert isinstance(manifest, TaskManifest)
    assert {name: manifest.training[name] for name in EXTRA_SETTINGS} == {
        name: value for name, value in extras.items() if name != "head"
    } | {"keep_epoch": None, "class_weights": None}
    assert manifest.sparsity == pytest.approx(0.3, abs=1e-4)
    assert manifest.masking.threshold != options.threshold
    assert manifest.metrics == report.epochs[report.best_epoch - 1].metrics


def test_two_runs_of_one_seed_publish_the_same_masks(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, epochs=1)
    assert (learn(options).version, learn(options).version) == (1, 2)
    learn(tiny_options(tmp_path, tiny_bert, epochs=1, seed=1))
    assert _masks(str(options.store), 1) == _masks(str(options.store), 2)
    assert _masks(str(options.store), 1) != _masks(str(options.store), 3)


def test_a_killed_run_goes_on_and_publishes_the_same_masks(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    options = tiny_options(tmp_path, tiny_bert)
    undisturbed = learn(options)
    with pytest.raises(Killed):
        learn(options, callbacks=[KillInEpoch(3)])
    resumed = learn(options)

    assert (undisturbed.resumed_after, resumed.resumed_after) == (0, 2)
    assert any("resuming after step 12 (epoch 2 of 3)" in line for line in log.messages)
    assert resumed.epochs == undisturbed.epochs
    assert _masks(str(options.store), 1) == _masks(str(options.store), 2)


def test_a_run_killed_in_its_first_epoch_says_where_it_resumes(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    options = tiny_options(tmp_path, tiny_bert, save_steps=2)
    with pytest.raises(Killed):
        learn(options, callbacks=[KillInEpoch(1)])
    assert learn(options).resumed_after == 0
    where = "resuming after step 2 (epoch 1 of 3) of the unfinished run"
    assert f"{where} in {options.run_folder}" in log.messages


def test_a_run_killed_after_it_was_published_is_published_once(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    options = tiny_options(tmp_path, tiny_bert, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", kill)
        with pytest.raises(Killed):
            learn(options)
    report = learn(options, callbacks=[KillInEpoch(1)])
    current = MaskStore.open(str(options.store)).current("demo")
    assert (report.version, report.digest) == (current.number, current.digest) == (1, report.digest)
    left = {path.name for path in options.run_folder.iterdir()}
    assert left - {"lock"} == {"report.json", "report.txt", "report.html"}


def test_an_unfinished_run_is_not_mixed_with_other_settings_or_data(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert)
    with pytest.raises(Killed):
        learn(options, callbacks=[KillInEpoch(2)])
    with pytest.raises(RunMismatchError, match="seed: 0, now 1"):
        learn(tiny_options(tmp_path, tiny_bert, seed=1))
    rows = ROWS["sequence-classification"](47)
    with pytest.raises(RunMismatchError, match="data: "):
        learn(tiny_options(tmp_path, tiny_bert, train=str(write_lines(tmp_path / "other.jsonl", rows))))
    assert learn(tiny_options(tmp_path, tiny_bert, seed=1, fresh=True)).resumed_after == 0


def test_what_was_learned_survives_a_store_that_is_full(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = tiny_options(tmp_path, tiny_bert)

    def full(store: MaskStore, bundle: MaskBundle) -> VersionInfo:
        raise StoreFullError("store is full")

    with monkeypatch.context() as patch:
        patch.setattr(MaskStore, "publish", full)
        with pytest.raises(PublishError, match=r"store is full.*nothing is lost"):
            learn(options)
    report = learn(options, callbacks=[KillInEpoch(1)])
    assert report.resumed_after == len(report.epochs) == 3
    assert report.version == 1


@pytest.mark.parametrize("kind", list(ROWS))
def test_the_dev_set_is_judged_in_the_report_and_in_short_in_the_manifest(
    tmp_path: Path, tiny_bert: str, kind: TaskKind
) -> None:
    options = tiny_options(tmp_path, tiny_bert, kind, epochs=2, force=True)
    report = learn(options)
    manifest, found = MaskStore.open(str(options.store)).load("demo").manifest, report.evaluation
    assert manifest.evaluation == found.info()
    assert found.metrics == pytest.approx(report.metrics, abs=1e-6)
    assert (found.examples, found.metric, found.kind) == (16, report.metric, kind)
    assert sum(one.count for one in found.classes) == sum(one.count for one in found.confusion) or (
        kind == "multi-label-classification"
    )


def test_a_finished_run_leaves_a_report_and_no_checkpoint(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, epochs=1)
    report = learn(options)
    left = {path.name for path in options.run_folder.iterdir()}
    assert left - {"lock"} == {"report.json", "report.txt", "report.html"}
    assert json.loads((options.run_folder / "report.json").read_text())["digest"] == report.digest


def test_unusable_rows_and_cut_texts_are_counted(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    rows = [*ROWS["sequence-classification"](20), {"text": "", "label": "positive"}, {"text": "good " * 40}]
    rows += [{"text": "good " * 40, "label": "positive"}]
    options = tiny_options(
        tmp_path, tiny_bert, train=str(write_lines(tmp_path / "rows.jsonl", rows)), epochs=1
    )
    report = learn(options)

    assert (report.train.used, report.train.truncated) == (21, 1)
    assert [row.line for row in report.train.unusable] == [21, 22]
    told = "\n".join(log.messages)
    assert "21 examples, 1 longer than --max-length and cut" in told
    assert "1 row (line 21): 'text' is empty" in told
    assert "1 row (line 22): 'label' is missing" in told


def test_stopping_early_is_said(tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture) -> None:
    report = learn(tiny_options(tmp_path, tiny_bert, epochs=5, patience=1, lr=1e-12))
    assert len(report.epochs) == 2
    assert "stopped after epoch 2: the last 1 brought no gain" in log.messages


def test_the_revision_of_the_base_is_published(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_the_hub(name: str, *, revision: str | None, device: str) -> Base:
        base = load_base(name, device=device)
        return Base.from_model(base.encoder, base.tokenizer, name=name, revision=revision)

    monkeypatch.setattr(preparation, "load_base", from_the_hub)
    learn(tiny_options(tmp_path, tiny_bert, epochs=1, revision="v2.1"))
    assert MaskStore.open(tmp_path / "store").load("demo").manifest.base.revision == "v2.1"


def test_the_base_keeps_every_byte(tmp_path: Path, tiny_bert: str) -> None:
    files = {path: path.read_bytes() for path in Path(tiny_bert).iterdir()}
    fingerprint = load_base(tiny_bert).info.fingerprint
    options = tiny_options(tmp_path, tiny_bert, epochs=1)
    ready = prepare(options)
    learn(options)
    assert ready.base.info.fingerprint == fingerprint == load_base(tiny_bert).info.fingerprint
    assert files == {path: path.read_bytes() for path in Path(tiny_bert).iterdir()}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"task": "Not A Name"}, InvalidTaskNameError, "Not A Name"),
        ({"base": "/nowhere/at/all"}, BaseLoadError, "/nowhere/at/all"),
        (
            {"base": "no-such", "revision": "v1"},
            BaseLoadError,
            "there is no such folder; on the",
        ),
        ({"blocks": "2-9"}, OptionsError, "--blocks 2-9: .* has blocks 0 to 2"),
        ({"blocks": "3-"}, OptionsError, "last block is 2"),
        ({"max_length": 512}, OptionsError, "--max-length 512: .* takes 64 at most"),
    ],
)
def test_what_does_not_fit_is_an_error_before_anything_is_learned(
    tmp_path: Path,
    tiny_bert: str,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it would be tried again and again
    with pytest.raises(error, match=message):
        learn(tiny_options(tmp_path, tiny_bert, **change), callbacks=[KillInEpoch(0)])


def test_a_store_that_is_none_is_refused_before_the_data_is_read(tmp_path: Path, tiny_bert: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text("{}")
    options = tiny_options(tmp_path, tiny_bert, train=str(write_lines(tmp_path / "bad.jsonl", ["{"])))
    with pytest.raises(StoreFormatError):
        learn(options)


def test_a_store_that_takes_nothing_is_refused_before_the_data_is_read(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = tiny_options(tmp_path, tiny_bert, train=str(write_lines(tmp_path / "bad.jsonl", ["{"])))
    MaskStore.open(str(options.store), create=True)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(StoreNotWritableError, match="Read-only file system"):
        learn(options)


def test_publishing_needs_a_store_and_learning_does_not(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, store=None, epochs=1)
    with pytest.raises(OptionsError, match="--store missing"):
        learn(options)
    ready = prepare(options)
    with RunFolder.open(options.run_folder, ready.identity) as folder:
        learned = learn_bundle(ready, folder)
        assert learned.bundle.manifest.metrics == learned.epochs[learned.best_epoch - 1].metrics
        assert folder.last_checkpoint(), "checkpoints stay until the caller finishes the folder"


def test_a_variation_of_a_preparation_learns_what_its_options_say(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, epochs=1, seed=3, lr=2e-3)
    ready = prepare(tiny_options(tmp_path, tiny_bert, epochs=1)).varied(lr=2e-3, seed=3)
    assert ready.identity == prepare(options).identity
    with RunFolder.open(tmp_path / "varied", ready.identity) as folder:
        (varied,) = learn_bundle(ready, folder).bundle.members
    learn(options)
    assert {name: mask.tobytes() for name, mask in varied.masks.items()} == _masks(str(options.store), 1)


def test_a_label_of_dev_that_train_lacks_is_an_error(tmp_path: Path, tiny_bert: str) -> None:
    dev = write_lines(tmp_path / "odd.jsonl", [{"text": "good", "label": "neutral"}])
    with pytest.raises(LabelError, match=r"'neutral' \(line 1\)"):
        learn(tiny_options(tmp_path, tiny_bert, dev=str(dev)))


def test_long_sentences_are_learned_in_windows(tmp_path: Path, tiny_bert: str) -> None:
    long = {"tokens": ["anna", "works"] * 30, "tags": ["B-PER", "O"] * 30}
    rows = [*ROWS["token-classification"](15), long]
    options = tiny_options(
        tmp_path,
        tiny_bert,
        "token-classification",
        train=str(write_lines(tmp_path / "long.jsonl", rows)),
        epochs=1,
    )
    ready = prepare(options)
    item = ready.encoded.train[-1]
    assert isinstance(item.example.input, WordsInput)
    assert len(item.features.positions) == 60
    assert len(item.features.rows) > 1
    assert learn(options).train.truncated == 0
