import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.support.learning_data import evaluation_of
from training.errors import ReportError
from training.judging.evaluation import ClassScores, Confusion, WorstError
from training.page.page import run_page
from training.page.record import read_run, write_comparison

HOSTILE = "<script>alert(1)</script>\"'&\x00\ud800\u202eend"
EPOCHS = [
    {"number": n, "loss": 1 / n, "metrics": {"accuracy": 0.7 + n / 20}, "zeros": 0.05, "flipped": n / 100}
    for n in (1, 2, 3)
]
_VOID = {"meta", "circle", "rect", "path"}


class Page(HTMLParser):
    """What is in a page: elements, texts, and whether all are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def headings(self) -> list[str]:
        starts = [index for index, (tag, _) in enumerate(self.elements) if tag == "h2"]
        return [text for text in self.texts if text in _HEADINGS] if starts else []


_HEADINGS = (
    "Learning",
    "Against finetuning",
    "Confusions",
    "Labels",
    "Values",
    "Calibration",
    "Worst errors",
)


def report(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "task": "questions",
        "base": "bert",
        "device": "cpu",
        "metric": "accuracy",
        "metrics": {"accuracy": 0.85},
        "seconds": 12.0,
        "best_epoch": 3,
        "epochs": EPOCHS,
        "evaluation": evaluation_of().to_dict(),
        "version": 2,
        "digest": "sha256:" + "a" * 64,
        "bundle_bytes": 10,
        "mask_bytes": 20,
        "finetuned_bytes": 400,
        "curl": "curl ...",
    }
    return fields | changes


def compared(method: str, seed: int, *values: float) -> dict[str, Any]:
    best = values.index(max(values)) + 1 if values else 0
    return {
        "method": method,
        "lr": 1e-3,
        "seed": seed,
        "end": "finished" if values else "diverged",
        "metric": "accuracy",
        "values": values,
        "best_epoch": best,
        "nbytes": 20 if method == "mask" else 400,
        "seconds": 3.0,
        "epochs": [],
        "value": max(values, default=None),
    }


def write(folder: Path, fields: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(fields))
    return folder


def page_of(folder: Path) -> Page:
    text = run_page(read_run(folder))
    text.encode("utf-8")
    page = Page(text)
    assert page.open == []
    return page


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write(tmp_path / "questions", report())


def test_it_has_all_that_is_known_of_a_run(run: Path) -> None:
    page = page_of(run)
    assert page.headings() == ["Learning", "Confusions", "Labels", "Calibration", "Worst errors"]
    for text in ("questions", "0.8500", "0.5000", "'a' for everything", "3 of 3", "<b>odd</b> & bad"):
        assert text in page.texts
    labels = [attributes["aria-label"] or "" for attributes in page.named("svg")]
    assert [label.split(":")[0] for label in labels] == [
        *("dev accuracy", "training loss, in nats", "mask bits, in percent", "Reliability")
    ]
    assert "this run from 0.75 to 0.85" in labels[0]


def test_it_loads_and_runs_nothing(run: Path) -> None:
    page = page_of(run)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "base"}
    for _, attributes in page.elements:
        assert not {"src", "href", "xlink:href", "srcset"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    (policy,) = (one for one in page.named("meta") if one.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none'")


def test_it_can_be_read_aloud_and_on_a_phone(run: Path) -> None:
    page = page_of(run)
    assert page.named("html") == [{"lang": "en"}]
    assert any(one.get("name") == "viewport" for one in page.named("meta"))
    assert all(one.get("role") == "img" and one.get("aria-label") for one in page.named("svg"))
    assert all(one.get("scope") in ("row", "col") for one in page.named("th"))
    regions = [one for one in page.named("div") if one.get("class") == "scroll"]
    assert len(regions) == len(page.named("caption")) == len(page.named("table"))
    assert all(one.get("tabindex") == "0" and one.get("aria-label") for one in regions)


def test_text_from_data_is_text(tmp_path: Path) -> None:
    evaluation = evaluation_of(
        file=HOSTILE,
        baseline_answer=HOSTILE,
        classes=(ClassScores(HOSTILE, 1.0, 1.0, 1.0, 1), ClassScores("b", 0.0, 0.0, 0.0, 1)),
        confusion=(Confusion(HOSTILE, "b", 1),),
        worst=(WorstError(1, HOSTILE, HOSTILE, "b", 0.5),),
    )
    fields = report(task=HOSTILE, base=HOSTILE, device=HOSTILE, evaluation=evaluation.to_dict())
    page = page_of(write(tmp_path / "run", json.loads(json.dumps(fields).replace("\\ud800", "?"))))
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\ud800", "?")
    assert not page.named("script")
    assert sum(text == shown for text in page.texts) > 6


def test_finetuning_is_beside_it_where_it_was_compared(run: Path) -> None:
    runs = [
        compared("mask", 1, 0.7, 0.8),
        compared("mask", 2, 0.75, 0.85),
        compared("finetune", 1, 0.8, 0.85),
        compared("finetune", 2),
    ]
    write_comparison(run.with_name("questions-compare"), runs)
    page = page_of(run)
    assert "Masking is 2.50 points below finetuning." in page.texts
    for text in ("0.8250", "0.0354", "0.8500", "1, 2, 1 diverged"):
        assert text in page.texts
    assert "compared: finetuning from 0.8 to 0.85" in str(page.named("svg")[0]["aria-label"])
    alone = page_of(run.with_name("questions-compare"))
    assert alone.headings() == ["Learning", "Against finetuning"]


def test_runs_of_other_kinds_have_what_they_have(tmp_path: Path) -> None:
    ensemble = {key: value for key, value in report().items() if key not in ("epochs", "best_epoch")}
    page = page_of(write(tmp_path / "ensemble", ensemble))
    assert page.headings() == ["Confusions", "Labels", "Calibration", "Worst errors"]
    old = {key: value for key, value in report().items() if key != "evaluation"}
    assert page_of(write(tmp_path / "old", old)).headings() == ["Learning"]
    values = evaluation_of(
        kind="regression",
        classes=(),
        confusion=(),
        bins=(),
        calibration_error=None,
        values=((0.5, 1.0), (2.0, 1.5)),
    )
    fields = report(evaluation=values.to_dict())
    assert page_of(write(tmp_path / "numbers", fields)).headings() == ["Learning", "Values", "Worst errors"]


def test_many_labels_are_listed_without_a_matrix(tmp_path: Path) -> None:
    classes = tuple(ClassScores(f"label {n}", 1.0, 1.0, 1.0, 1) for n in range(150))
    confusion = tuple(Confusion(one.label, one.label, 1) for one in classes)
    evaluation = evaluation_of(classes=classes, confusion=confusion, worst=())
    page = page_of(write(tmp_path / "run", report(evaluation=evaluation.to_dict())))
    assert "The matrix of 150 labels is too large to show." in page.texts
    assert "label 149" in page.texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no report.json; it is written when a run has finished"),
        ("{", "is not the report of a run: JSON"),
        ('{"task": "a"}', "is not the report of a run: base: Field required"),
    ],
)
def test_what_is_no_report_is_told(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(ReportError, match=message):
        read_run(tmp_path)
