from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker

from tests.support.learning_data import tiny_options
from training.errors import OptionsError
from training.loop.tracking import Tracking
from training.runs.learn import learn
from training.runs.preparation import prepare


class Kept(GeneralTracker):  # type: ignore[misc]
    """A tracker that keeps what it is given, and fails where it is told to."""

    name = "kept"
    requires_logging_directory = False

    def __init__(self, failing: str = "") -> None:
        super().__init__()
        self.failing = failing
        self.calls: list[Any] = []

    @property
    def tracker(self) -> None:
        return None

    def _call(self, name: str, *values: Any) -> None:
        if name == self.failing:
            raise ConnectionError("nobody\nanswers")
        self.calls.append((name, *values))

    def start(self) -> None:
        self._call("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._call("settings", values)

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self._call("log", values, step)

    def finish(self) -> None:
        self._call("finish")


def test_a_tracker_gets_settings_figures_and_its_end(tmp_path: Path, tiny_bert: str) -> None:
    kept = Kept()
    report = learn(
        tiny_options(tmp_path, tiny_bert), callbacks=[Tracking(kept, "--track kept", {"lr": 5e-3})]
    )
    names = [call[0] for call in kept.calls]
    assert names[:2] == ["start", "settings"]
    assert names[-1] == "finish"
    assert kept.calls[1][1] == {"lr": 5e-3}
    values = [values for name, *values in kept.calls if name == "log"]
    measured = [own["eval/accuracy"] for own, _ in values if "eval/accuracy" in own]
    assert measured == [epoch.metrics["accuracy"] for epoch in report.epochs]
    steps = [step for _, step in values]
    assert steps == sorted(steps)


@pytest.mark.parametrize("call", ["log", "finish"])
def test_a_tracker_that_fails_on_the_way_costs_its_curves_alone(
    tmp_path: Path, tiny_bert: str, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    report = learn(tiny_options(tmp_path, tiny_bert), callbacks=[Tracking(Kept(call), "--track kept")])
    assert report.version == 1
    told = [record.message for record in caplog.records if "--track" in record.message]
    assert told == ["warning: --track kept failed and is left out from here: nobody answers"]


def test_a_tracker_that_does_not_start_is_told_before_anything_is_learned(
    tmp_path: Path, tiny_bert: str
) -> None:
    with pytest.raises(OptionsError, match="--track kept: nobody answers"):
        learn(tiny_options(tmp_path, tiny_bert), callbacks=[Tracking(Kept("start"), "--track kept")])


def test_tensorboard_has_a_folder_for_each_run(tmp_path: Path, tiny_bert: str) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    report = learn(tiny_options(tmp_path, tiny_bert, tensorboard=str(tmp_path / "board")))
    events: Any = EventAccumulator(str(tmp_path / "board" / "run"))
    events.Reload()
    assert {"train/loss", "train/zeros"} <= set(events.Tags()["scalars"])
    assert all(event.value == pytest.approx(5e-3) for event in events.Scalars("train/learning_rate"))
    accuracies = [event.value for event in events.Scalars("eval/accuracy")]
    assert accuracies == pytest.approx([epoch.metrics["accuracy"] for epoch in report.epochs])
    assert events.Scalars("train/flipped")[-1].value == pytest.approx(report.epochs[-1].flipped)


def test_mlflow_keeps_a_run_in_its_store(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    report = learn(tiny_options(tmp_path, tiny_bert, track=("mlflow",)))
    (metric,) = (tmp_path / "mlruns").glob("*/*/metrics/eval/accuracy")
    values = [float(line.split()[1]) for line in metric.read_text().splitlines()]
    assert values == pytest.approx([epoch.metrics["accuracy"] for epoch in report.epochs])
    run = metric.parents[2]
    assert (run / "params" / "lr").read_text() == "0.005"
    assert (run / "tags" / "mlflow.runName").read_text() == "run"


def test_wandb_keeps_a_run_where_there_is_no_network(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    learn(tiny_options(tmp_path, tiny_bert, track=("wandb",)))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    written = b"".join(path.read_bytes() for path in folder.glob("*.wandb"))
    assert b"eval/accuracy" in written
    assert b"maskserve" in written


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tensorboard": "board"}, r"--tensorboard: .*pip install 'maskserve\[tensorboard\]'"),
        ({"track": ("wandb",)}, r"--track wandb: .*pip install 'maskserve\[wandb\]'"),
    ],
)
def test_what_is_not_installed_is_told_before_anything_is_learned(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr("training.loop.tracking._is_installed", lambda module: False)
    with pytest.raises(OptionsError, match=told):
        prepare(tiny_options(tmp_path, tiny_bert, **options))
