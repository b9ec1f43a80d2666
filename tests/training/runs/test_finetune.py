import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from masking import FinetunedModel
from tests.support.callbacks import Killed, KillInEpoch
from tests.support.learning_data import command_line, tiny_options
from tests.support.models import tiny_base
from training.errors import KeepError
from training.learn_mask import main
from training.loop.evaluation import evaluate
from training.runs.finetune import finetune
from training.runs.preparation import prepare


def learned(folder: Path) -> dict[str, torch.Tensor]:
    """What a model learned, from a folder of BERT in transformers."""
    own = {"bert.pooler.dense.": "pooler.", "bert.": "encoder."}
    found = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        before = next((one for one in own if name.startswith(one)), "")
        found[own.get(before, "") + name.removeprefix(before)] = tensor
    return found


def test_kept_weights_are_those_that_were_measured(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, store=None, lr=1e-3)
    kept = tmp_path / "deep" / "kept"
    report = finetune(options, keep=kept)
    assert {path.name for path in kept.iterdir()} >= {"config.json", "model.safetensors", "report.json"}
    assert json.loads((kept / "report.json").read_text())["metrics"] == report.metrics
    assert report.kept == str(kept)

    ready = prepare(options)
    model = FinetunedModel.create(ready.base, ready.spec, seed=0)
    state = learned(kept)
    assert sum(tensor.nbytes for tensor in state.values()) == report.model_bytes
    assert not all(torch.equal(state[name], value) for name, value in model.learned_state().items())
    model.load_learned_state(state)
    assert evaluate(model, ready.codec, ready.encoded.dev, max_rows=8) == report.metrics


def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    options = tiny_options(tmp_path, tiny_bert, store=None, lr=1e-3)
    undisturbed = finetune(options, keep=tmp_path / "one")
    with pytest.raises(Killed):
        finetune(options, keep=tmp_path / "other", callbacks=[KillInEpoch(3)])
    assert not (tmp_path / "other").exists()
    resumed = finetune(options, keep=tmp_path / "other")
    assert any("resuming after step 12 (epoch 2 of 3)" in line for line in log.messages)
    assert resumed.epochs == undisturbed.epochs
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]


def test_weights_that_can_not_be_kept_are_not_lost(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    options = tiny_options(tmp_path, tiny_bert, store=None, epochs=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(KeepError, match="can't be kept"):
        finetune(options, keep=tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr("training.runs.finetune.export_tensors", full)
        with pytest.raises(KeepError, match="can't be kept there: No space left"):
            finetune(options, keep=tmp_path / "kept")
    finetune(options, keep=tmp_path / "kept", callbacks=[KillInEpoch(1)])
    assert (tmp_path / "kept" / "model.safetensors").is_file()


def test_a_copy_of_an_architecture_without_a_class_is_kept_as_learned(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "roformer")
    report = finetune(tiny_options(tmp_path, base, store=None, epochs=1), keep=tmp_path / "kept")
    state = load_file(tmp_path / "kept" / "learned.safetensors")
    assert sum(tensor.nbytes for tensor in state.values()) == report.model_bytes


def test_the_command_finetunes_without_a_store(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command_line(tmp_path, tiny_bert, store=""), "--method", "finetune"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "at lr 5e-05" in printed.out
    assert "--save-to DIR keeps the weights" in printed.out
    assert "epoch  1 of 1" in printed.err

    assert main([*arguments, "--save-to", str(tmp_path / "kept"), "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kept"] == str(tmp_path / "kept")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--method", "finetune", "--seeds", "1", "2"], "training.compare runs both"),
        (["--save-to", "kept"], "--save-to is where --method finetune keeps weights"),
        (["--seeds", "1", "2", "--seed", "3"], "--seed and --seeds"),
        (["--seeds", "1", "1"], "give each seed once"),
        (["--seeds", "1"], "an ensemble has 2 to 64 masks"),
        (["--store", ""], "--store missing"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert main([*command_line(tmp_path, tiny_bert), *options]) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.err.count("\n") == 1
