from pathlib import Path

import pytest
import torch

from tests.support.learning_data import reviews, tiny_options, write_lines
from tests.support.models import finetuned
from training.errors import OptionsError
from training.runs.learn import learn
from training.runs.preparation import begin, check_launch, choose_device, prepare


def test_what_goes_beyond_the_paper_is_for_masks_only(tmp_path: Path, tiny_bert: str) -> None:
    extras = {"average": 0.9, "final_sparsity": 0.2, "head": "trained", "head_lr": 2e-3}
    ready = prepare(tiny_options(tmp_path, tiny_bert, **extras))
    assert ready.loop("mask") == ready.options
    loop = ready.loop("finetune")
    assert (loop.lr, loop.head_lr, loop.ema_decay, loop.final_sparsity) == (5e-3, None, None, None)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(OptionsError, match="no CUDA device"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == "cuda"
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize(("found", "told"), [("fp32", True), ("bf16", False)])
def test_bf16_that_may_be_emulated_is_warned_of(
    tmp_path: Path,
    tiny_bert: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    found: str,
    told: bool,
) -> None:
    monkeypatch.setattr("training.runs.preparation.choose_precision", lambda wanted, device: found)
    begin(tiny_options(tmp_path, tiny_bert, precision="bf16"))
    assert [message[:42] for message in caplog.messages] == told * [
        "warning: --precision bf16: no kernel for i"
    ]


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of one of three processes."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    return monkeypatch


def test_a_batch_that_cannot_be_shared_out_is_an_error(
    tiny_bert: str, tmp_path: Path, three: pytest.MonkeyPatch
) -> None:
    check_launch(tiny_options(tmp_path, tiny_bert, batch_size=9))
    with pytest.raises(OptionsError, match="--batch-size 8: 3 processes can't share it out evenly"):
        check_launch(tiny_options(tmp_path, tiny_bert))


def test_each_process_has_a_gpu_of_its_own(three: pytest.MonkeyPatch) -> None:
    three.setattr(torch.cuda, "is_available", lambda: True)
    three.setattr(torch.cuda, "device_count", lambda: 2)
    three.setenv("LOCAL_RANK", "1")
    three.setenv("LOCAL_WORLD_SIZE", "2")  # the third is on another machine
    assert choose_device("auto") == "cuda:1"
    assert choose_device("cpu") == "cpu"
    three.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(OptionsError, match="more processes than the 2 CUDA devices"):
        choose_device("cuda")


def test_another_number_of_processes_is_another_run(
    tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert))
    alone = ready.identity
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert ready.identity == alone | {"processes": 3}
    assert ready.identity != alone


@pytest.mark.parametrize(
    "option", [{"text_column": "body"}, {"label_separator": ""}, {"missing_label": "none"}], ids=str
)
def test_rows_that_are_read_otherwise_are_another_run(
    tiny_bert: str, tmp_path: Path, option: dict[str, str]
) -> None:
    rows = [{**row, "body": row["text"][::-1]} for row in reviews(20)]
    file = str(write_lines(tmp_path / "rows.jsonl", rows))
    options = tiny_options(tmp_path, tiny_bert, train=(file,), dev=(file,))
    ready, other = prepare(options), prepare(options.replaced(**option))
    assert other.data.digest == ready.data.digest
    assert other.identity == ready.identity | option


def test_a_base_that_is_a_finetuned_classifier_is_told_and_import_is_named(
    tmp_path: Path, tiny_bert: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy = finetuned(tiny_bert, tmp_path / "copy", "sequence-classification")
    prepare(tiny_options(tmp_path, tiny_bert))
    assert "finetuned" not in caplog.text
    prepare(tiny_options(tmp_path, copy))
    assert "is a finetuned BertForSequenceClassification: its classifier is dropped" in caplog.text
    assert f"maskserve import --model {copy} --base" in caplog.text


def test_class_weights_change_what_is_learned(tmp_path: Path, tiny_bert: str) -> None:
    rows = [*reviews(40), *({"text": "it was bad", "label": "negative"} for _ in range(40))]
    train = str(write_lines(tmp_path / "t.jsonl", rows))
    options = tiny_options(tmp_path, tiny_bert, train=train, epochs=1)
    plain, weighted = (
        learn(options.replaced(class_weights=weights, run_dir=str(tmp_path / f"run-{weights}"), force=True))
        for weights in (None, "balanced")
    )
    assert plain.digest != weighted.digest
    assert plain.epochs[0].loss != weighted.epochs[0].loss
