import json
from pathlib import Path
from typing import Any

import pytest

from mask_store import MaskStore
from masking import TextInput
from tests.support.callbacks import KillInEpoch
from tests.support.learning_data import pairs, reviews, tiny_options, write_lines
from training.errors import NothingLearnedError
from training.options import LearnOptions
from training.runs.ensemble import learn_ensemble
from training.runs.learn import learn
from training.runs.preparation import prepare
from training.runs.results import Results
from training.runs.runner import Runner


def _hopeless(folder: Path, base: str, rows: int = 40, **changes: Any) -> LearnOptions:
    """A run whose learning rate is too low to move a bit, measured on rows of which most are negative."""
    dev = [row for row in reviews(200, seed=1) if row["label"] == "negative"][: rows - 2] + reviews(
        4, seed=2
    )[:2]
    dev_file = str(write_lines(folder / "many.jsonl", dev[:rows]))
    return tiny_options(folder, base, dev=dev_file, **({"lr": 1e-12, "epochs": 1} | changes))


def test_a_mask_that_learned_nothing_is_not_published_until_it_is_forced(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    options = _hopeless(tmp_path, tiny_bert)
    with pytest.raises(NothingLearnedError, match=r"dev accuracy .* on 40 examples is not above .*--force"):
        learn(options)
    assert MaskStore.open(str(options.store)).tasks() == ()
    report = learn(options.replaced(force=True), callbacks=[KillInEpoch(1)])  # it is not learned again
    assert (report.version, report.resumed_after) == (1, 1)
    assert any("nothing may be learned" in message for message in log.messages)
    assert json.loads((options.run_folder / "report.json").read_text())["version"] == 1


def test_few_dev_rows_are_told_and_not_judged(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    assert learn(_hopeless(tmp_path, tiny_bert, rows=29)).version == 1
    (told,) = [message for message in log.messages if "nothing may be learned" in message]
    assert "'negative' for everything" in told


def test_a_mask_that_learned_is_published_without_a_word(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    dev = str(write_lines(tmp_path / "many.jsonl", reviews(40, seed=1)))
    options = tiny_options(tmp_path, tiny_bert, dev=dev, lr=2e-2, epochs=20, patience=20)
    assert learn(options).value > 0.9
    assert not any("nothing" in message for message in log.messages)


def test_an_ensemble_is_judged_as_a_whole(tmp_path: Path, tiny_bert: str) -> None:
    with pytest.raises(NothingLearnedError):
        learn_ensemble(_hopeless(tmp_path, tiny_bert), [1, 2])


def test_a_comparison_goes_on_without_publishing(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    options = _hopeless(tmp_path, tiny_bert)
    store = MaskStore.open(str(options.store), create=True)
    result = Runner(Results(), tmp_path / "runs", store=store).run(prepare(options), "mask")
    assert result.end == "finished"
    assert store.tasks() == ()
    assert any("nothing was learned" in message for message in log.messages)


def test_what_the_data_are_is_told_before_learning(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"sentence1": row["text"], "sentence2": row["text_pair"], "label": row["label"]} for row in pairs(20)
    ]
    path = str(write_lines(tmp_path / "p.jsonl", rows))
    ready = prepare(tiny_options(tmp_path, tiny_bert, train=path, dev=path))
    told = "\n".join(log.messages)
    assert "columns: --text-column sentence1 --pair-column sentence2 --label-column label" in told
    assert "2 labels: 0 10, 1 10" in told
    assert "baseline: '0' for everything has dev accuracy 0.5000" in told
    assert "warning: 20 of 20 rows" in told
    item = ready.encoded.train[0].example.input
    assert isinstance(item, TextInput)
    assert item.pair


def test_a_share_of_train_is_measured_on_and_belongs_to_the_run(tmp_path: Path, tiny_bert: str) -> None:
    options = tiny_options(tmp_path, tiny_bert, dev=None, validation_share=0.25, epochs=1)
    report = learn(options)
    assert report.train.used + report.dev.used == 48
    assert report.dev.used == pytest.approx(12, abs=2)
    other = prepare(options.replaced(validation_share=0.5)).identity
    assert other != prepare(options).identity
