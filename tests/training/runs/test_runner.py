from pathlib import Path
from typing import NoReturn

import pytest

from mask_store import MaskStore
from masking import MaskedModel
from tests.support.callbacks import Killed, KillInEpoch
from tests.support.learning_data import tiny_options
from tests.training.runs.test_results import result
from training.errors import DivergedError
from training.loop.run_folder import RunFolder
from training.runs.preparation import Preparation, prepare
from training.runs.results import Result, Results
from training.runs.runner import HeldOutRows, Runner


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, tiny_bert: str) -> Preparation:
    return prepare(tiny_options(tmp_path_factory.mktemp("data"), tiny_bert, epochs=1))


def _kill(*_: object) -> NoReturn:
    raise Killed


def test_a_run_killed_after_it_was_published_is_published_once(
    ready: Preparation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MaskStore.open(tmp_path / "store", create=True)
    runner = Runner(Results(), tmp_path / "runs", [KillInEpoch(2)], store)
    with monkeypatch.context() as patch:
        patch.setattr(Results, "add", _kill)
        with pytest.raises(Killed):
            runner.run(ready, "mask")
    assert runner.run(ready, "mask").end == "finished"
    assert store.current("demo").number == 1


def test_a_run_killed_after_its_result_was_written_leaves_no_checkpoint(
    ready: Preparation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(Results(), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", _kill)
        with pytest.raises(Killed):
            runner.run(ready, "mask")
    assert list(tmp_path.rglob("checkpoint-*"))
    known = runner.run(ready, "mask")
    (path,) = tmp_path.iterdir()
    assert {file.name for file in path.iterdir()} - {"lock"} == {"report.json"}
    (path / "report.json").unlink()
    assert runner.run(ready, "mask") is known
    assert not (path / "report.json").exists(), "a folder without remains is not touched"


def test_a_run_is_measured_on_held_out_rows_at_its_best_epoch(ready: Preparation, tmp_path: Path) -> None:
    rows = HeldOutRows(ready.encoded.dev, "sha256:1")
    made = Runner(Results(), tmp_path, held_out=rows).run(ready, "finetune")
    assert made.held_out == {"sha256:1": made.epochs[made.best_epoch - 1].metrics}
    assert Runner(Results(), tmp_path).run(ready, "finetune").held_out == {}


def test_a_known_result_does_not_touch_what_another_run_left(ready: Preparation, tmp_path: Path) -> None:
    results = Results()
    runner = Runner(results, tmp_path, [KillInEpoch(2)])
    with pytest.raises(Killed):
        runner.run(ready.varied(epochs=2), "mask")
    results.add(ready.identity_for("mask"), result())
    runner.run(ready, "mask")
    assert list(tmp_path.rglob("checkpoint-*"))


def test_a_stopped_run_that_is_made_whole_keeps_its_checkpoints(ready: Preparation, tmp_path: Path) -> None:
    results = Results()
    whole = ready.varied(epochs=2)
    results.add(whole.identity_for("mask"), result(end="stopped"))
    runner = Runner(results, tmp_path, [KillInEpoch(2)])
    with pytest.raises(Killed):
        runner.run(whole, "mask")
    assert runner.run(whole, "mask", result(0.1, 1.0)).end == "stopped"
    assert list(tmp_path.rglob("checkpoint-*"))


def test_a_model_of_the_callers_own_is_learned_once_and_resumed(ready: Preparation, tmp_path: Path) -> None:
    ready, made = ready.varied(epochs=2), list[MaskedModel]()

    def make() -> MaskedModel:
        made.append(MaskedModel.create(ready.base, ready.spec, ready.options, seed=ready.options.seed))
        return made[-1]

    def learn(runner: Runner, name: str = "one") -> Result:
        identity = {**ready.identity_for("mask"), "variant": name}
        return runner.run_model(ready, identity, make, nbytes=lambda _model: 7)

    results, rows = Results(), HeldOutRows(ready.encoded.dev, "sha256:1")
    with pytest.raises(Killed):
        learn(Runner(results, tmp_path, [KillInEpoch(2)], held_out=rows))
    assert list(tmp_path.rglob("checkpoint-*"))
    runner = Runner(results, tmp_path, held_out=rows)
    result = learn(runner)
    plain = Runner(Results(), tmp_path / "plain", held_out=rows).run(ready, "mask")
    assert (result.epochs, result.held_out, result.nbytes) == (plain.epochs, plain.held_out, 7)
    assert not list(tmp_path.rglob("checkpoint-*"))
    assert learn(runner) is result
    assert len(made) == 2
    learn(runner, "another")
    assert len(made) == 3


def test_a_run_that_diverged_is_not_made_again(ready: Preparation, tmp_path: Path) -> None:
    def diverge() -> MaskedModel:
        raise DivergedError("the loss is not a number")

    runner = Runner(Results(), tmp_path, held_out=HeldOutRows(ready.encoded.dev, "sha256:1"))
    diverged = runner.run_model(ready, ready.identity, diverge, nbytes=lambda _model: 7)
    assert (diverged.end, diverged.values, diverged.held_out, diverged.nbytes) == ("diverged", (), {}, 0)
    assert runner.run_model(ready, ready.identity, _kill, nbytes=lambda _model: 7) is diverged
