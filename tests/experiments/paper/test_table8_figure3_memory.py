import json
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.paper import table8_figure3_memory as memory
from experiments.published.facts import FACTS, Addends
from lab.paper_bases import base_of_shape
from masking import load_base


def test_table_8_of_the_paper_addend_for_addend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "own_bundles", lambda _: dict.fromkeys(FACTS.setup.tasks, 0))  # takes seconds
    assert main(["table8", "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "table8.json").read_text())
    assert report["scale"] == "exact"
    assert {claim["rule"]: claim["agrees"] for claim in report["claims"]} == {"T8": True, "T2c": True}
    bert = report["values"]["bert-base-uncased"]
    assert bert["totals"][-1] == {
        "finetuning_parameters": 1_204_366_848,
        "finetuning_kilobytes": 4_817_467.392,
        "masking_parameters": 894_654_720,
        "masking_kilobytes": 536_286.816,
    }
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "table8.md").read_text().strip()
    row = "+ 4,608 + 71,368,704 + 4,608"
    assert f"| TREC | masking | {row} | {row} | + 18.432 + 8,921.088 + 0.576 |" in printed


def test_our_bundles_are_another_count(tiny_bert: str) -> None:
    bundles = memory.own_bundles(load_base(tiny_bert))
    assert list(bundles) == list(FACTS.setup.tasks)
    assert bundles["mrpc"] == bundles["rte"]  # a classifier of its own each
    assert bundles["trec"] > bundles["agnews"] > bundles["mrpc"] > bundles["swag"]


def test_a_folder_is_told_by_its_name_and_not_compared(tmp_path: Path, tiny_bert: str) -> None:
    assert main(["table8", "--base", tiny_bert, "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "table8.json").read_text())
    assert list(report["values"]) == ["tiny-bert"]
    assert report["claims"] == []
    text = (tmp_path / "table8.md").read_text()
    assert tiny_bert not in text
    assert "| MRPC | finetuning | + 64 | - | + 0.256 | - |" in text


def test_a_pooler_that_the_checkpoint_lacks_is_drawn_once_for_all_masks() -> None:
    counted = memory.count(base_of_shape("distilbert-base-uncased"))
    first, second = counted.added["mrpc"], counted.added["sst2"]
    mask = 28_901_376
    assert first["masking"]["parameters"] == Addends(
        classifier=1536 + 768 * 768, mask=mask, classifier_mask=1536
    )
    assert second["masking"]["parameters"] == Addends(mask=mask, classifier_mask=1536)
    assert second["masking"]["kilobytes"].mask == 3_612.672
    assert second["finetuning"]["parameters"].classifier == 1536 + 768 * 768


def test_a_shape_has_the_weights_of_a_loaded_base(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    counted = memory.count(base)
    assert counted.pretrained == {"parameters": base.nbytes // 4, "kilobytes": base.nbytes / 1000}
    assert counted.added["rte"]["masking"]["parameters"].mask == 4 * 32 * 32 + 2 * 32 * 64 + 32 * 32
    held = memory.megabytes(counted)
    assert held["finetuning"]["ensemble"] == 4 * held["finetuning"]["single"]
    assert held["masking"]["ensemble"] - held["masking"]["single"] == pytest.approx(3 * 9216 / 8 / 1e6)


def test_figure_3(tmp_path: Path) -> None:
    assert main(["figure3", "--quick", "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "figure3.json").read_text())
    bert = report["values"]["bert-base-uncased"]
    assert (bert["less_memory_from"], bert["fewer_parameters_from"]) == (2, 3)
    assert [(claim["rule"], claim["agrees"]) for claim in report["claims"]] == [("F3", True)]
    assert (tmp_path / "figure3.png").read_bytes().startswith(b"\x89PNG")
