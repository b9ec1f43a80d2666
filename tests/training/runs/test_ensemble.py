import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mask_store import (
    WITHOUT_CLASSES,
    CombineRule,
    EnsembleManifest,
    MaskBundle,
    MaskStore,
    StoreFullError,
    TaskKind,
    VersionInfo,
)
from tests.support.callbacks import Killed
from tests.support.learning_data import ROWS, command_line, tiny_options
from training.errors import OptionsError, PublishError, RunMismatchError
from training.learn_mask import main
from training.loop.callbacks import Callback
from training.loop.evaluation import measure, served_logits
from training.loop.run_folder import RunFolder
from training.loop.trainer import Trainer
from training.runs.combining import RULES, choose_rule, measure_together, member_logits
from training.runs.ensemble import learn_ensemble
from training.runs.learn import learn_bundle
from training.runs.preparation import prepare


class KillIn(Callback):
    """Ends the process in the second epoch of a run, counted from 1; counts the epochs that were begun."""

    def __init__(self, run: int | None = None) -> None:
        self.left = run
        self.epochs = 0

    def on_train_begin(self, trainer: Trainer) -> None:
        if self.left is not None:
            self.left -= 1

    def on_epoch_begin(self, trainer: Trainer) -> None:
        if self.left == 0 and trainer.history.step >= trainer.history.steps_per_epoch:
            raise Killed
        self.epochs += 1


def _members(store: Path, number: int = 1) -> list[dict[str, bytes]]:
    bundle = MaskStore.open(store).load("demo", number)
    return [{name: mask.tobytes() for name, mask in member.masks.items()} for member in bundle.members]


@pytest.mark.parametrize("kind", list(ROWS))
def test_one_version_is_published_and_served_as_it_was_measured(
    tmp_path: Path, tiny_bert: str, kind: TaskKind
) -> None:
    options = tiny_options(tmp_path, tiny_bert, kind, epochs=1)
    report = learn_ensemble(options, [3, 1, 2])

    store = MaskStore.open(tmp_path / "store")
    assert store.tasks() == ("demo",)
    assert [version.number for version in store.versions("demo")] == [report.version] == [1]
    bundle = store.load("demo")
    manifest = bundle.manifest
    assert isinstance(manifest, EnsembleManifest)
    assert [(member.seed, member.version) for member in manifest.members] == [(3, None), (1, None), (2, None)]
    assert (report.digest, report.bundle_bytes) == (bundle.digest, len(bundle.to_bytes()))
    assert (report.combine, report.metrics) == (manifest.combine, manifest.metrics)
    assert set(report.rules) == ({"logits"} if kind in WITHOUT_CLASSES else set(RULES))
    assert report.value == max(own[report.metric] for own in report.rules.values())
    assert [member.metrics for member in report.members] == [member.metrics for member in manifest.members]

    ready = prepare(options)
    served = served_logits(bundle, ready.base, ready.encoded.dev, max_rows=4)
    assert measure(ready.codec, ready.encoded.dev, list(map(ready.codec.decode, served))) == report.metrics


def test_members_are_the_masks_of_their_seeds(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, epochs=1)
    report = learn_ensemble(options, [1, 2])
    for seed, member in zip((1, 2), _members(tmp_path / "store"), strict=True):
        ready = prepare(options).varied(seed=seed)
        with RunFolder.open(tmp_path / "alone", ready.identity, fresh=True) as folder:
            learned = learn_bundle(ready, folder)
        (alone,) = learned.bundle.members
        assert member == {name: mask.tobytes() for name, mask in alone.masks.items()}
        served = served_logits(learned.bundle, ready.base, ready.encoded.dev, max_rows=8)
        metrics = measure(ready.codec, ready.encoded.dev, list(map(ready.codec.decode, served)))
        assert metrics == learned.bundle.manifest.metrics == report.members[seed - 1].metrics


def test_a_killed_ensemble_goes_on_and_learns_no_member_again(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    undisturbed = tiny_options(tmp_path, tiny_bert, epochs=2, run_dir=str(tmp_path / "other"))
    learn_ensemble(undisturbed, [1, 2, 3])
    options = tiny_options(tmp_path, tiny_bert, epochs=2)
    with pytest.raises(Killed):
        learn_ensemble(options, [1, 2, 3], callbacks=[KillIn(run=2)])
    assert (tmp_path / "run-seed1" / "bundle.safetensors").is_file()
    assert list((tmp_path / "run-seed2").glob("checkpoint-*"))

    watch = KillIn()
    report = learn_ensemble(options, [1, 2, 3], callbacks=[watch])
    assert watch.epochs == 3, "one epoch of seed 2 and both of seed 3 were left"
    assert any(line.startswith("seed 1: learned before") for line in log.messages)
    assert report.version == 2
    assert _members(tmp_path / "store", 1) == _members(tmp_path / "store", 2)
    for seed in (1, 2, 3):
        left = {path.name for path in (tmp_path / f"run-seed{seed}").iterdir()}
        assert left - {"lock"} == {"report.json", "report.txt", "report.html"}


def test_members_survive_a_store_that_is_full_and_are_not_mixed_with_other_settings(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: MaskStore, bundle: MaskBundle) -> VersionInfo:
        raise StoreFullError("store is full")

    options = tiny_options(tmp_path, tiny_bert, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(MaskStore, "publish", full)
        with pytest.raises(PublishError, match=r"store is full.*nothing is lost"):
            learn_ensemble(options, [1, 2])
    with pytest.raises(RunMismatchError, match="lr: "):
        learn_ensemble(tiny_options(tmp_path, tiny_bert, epochs=1, lr=1e-3), [1, 2])
    watch = KillIn()
    learn_ensemble(options, [1, 2], callbacks=[watch])
    assert watch.epochs == 0


def test_the_best_rule_is_chosen_and_of_equals_the_first() -> None:
    def rules(**values: float) -> dict[CombineRule, dict[str, float]]:
        return {rule: {"accuracy": values[rule]} for rule in RULES}

    assert RULES == ("probabilities", "logits", "labels")
    assert choose_rule(rules(labels=0.9, logits=0.8, probabilities=0.7), "accuracy") == "labels"
    assert choose_rule(rules(labels=0.9, logits=0.9, probabilities=0.7), "accuracy") == "logits"
    assert choose_rule(rules(labels=0.9, logits=0.9, probabilities=0.9), "accuracy") == "probabilities"


def test_rules_are_measured_on_the_members_logits(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert))
    right = [item.target[0] for item in ready.encoded.dev]

    def one_hot(bundle: float, *_: object, **__: object) -> list[Any]:
        sign = np.array([[1.0 if label == index else 0.0 for index in range(2)] for label in right])
        return list((bundle * sign).astype(np.float32))

    monkeypatch.setattr("training.runs.combining.served_logits", one_hot)
    members: Any = [5.0, -1.5, -1.5]  # one is right and sure, two are wrong and less so
    rules = measure_together(ready.codec, ready.encoded.dev, member_logits(ready, members))
    assert {rule: own["accuracy"] for rule, own in rules.items()} == {
        "probabilities": 0.0,
        "logits": 1.0,
        "labels": 0.0,
    }


@pytest.mark.parametrize("seeds", [[1], [1, 1], [], list(range(65))])
def test_seeds_that_make_no_ensemble_are_refused(tmp_path: Path, tiny_bert: str, seeds: list[int]) -> None:
    with pytest.raises(OptionsError, match="2 to 64 masks, each of another seed"):
        learn_ensemble(tiny_options(tmp_path, tiny_bert), seeds)


def test_the_command_prints_members_rules_and_choice(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command_line(tmp_path, tiny_bert), "--seeds", "4", "5"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    names = [line.split()[0] for line in printed.out.splitlines() if line.strip()]
    expected = ["published", "digest", "seed", "seed", *RULES, "chosen", "size", "finetuned", "baseline"]
    assert names[: len(expected)] == expected
    assert "2 finetuned copies" in printed.out
    assert "/predict/demo" in printed.out
    assert "seed 5:" in printed.err

    assert main([*arguments, "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["version"] == 2
    assert report["metrics"] == report["rules"][report["combine"]]
    assert [member["seed"] for member in report["members"]] == [4, 5]
