import json
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.paper import table8_figure3_memory as memory
from masking import load_base


def test_table_8_of_the_paper_to_the_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table8", "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "table8.json").read_text())
    assert report["scale"] == "exact"
    bert = report["values"]["bert-base-uncased"]
    assert bert["cost"] == {
        "parameters": 109_482_240,
        "base_bytes": 437_928_960,
        "mask_bits": 71_368_704,
        "mask_bytes": 8_921_088,
        "classifier_bits": 1_536,
        "classifier_bytes": 192,
        "head_parameters": 2 * 768 + 2,
        "head_bytes": 6_152,
    }
    assert bert["break_even"] == 2
    one, two = bert["tasks"][:2]
    assert one["finetuning_bytes"] == 437_928_960 + 6_152
    assert one["masking_bytes"] == 437_928_960 + 8_921_088 + 192 + 6_152
    assert two["finetuning_bytes"] == 2 * one["finetuning_bytes"]
    assert two["masking_bytes"] == 437_928_960 + 2 * (8_921_088 + 192 + 6_152)
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "table8.md").read_text().strip()
    row = next(line for line in printed.splitlines() if line.startswith("| base |"))
    assert row.count("437,928.96") == 2  # the paper's beside ours


def test_a_folder_is_told_by_its_name(tmp_path: Path, tiny_bert: str) -> None:
    assert main(["table8", "--base", tiny_bert, "--output", str(tmp_path)]) == 0
    assert list(json.loads((tmp_path / "table8.json").read_text())["values"]) == ["tiny-bert"]
    assert tiny_bert not in (tmp_path / "table8.md").read_text()


def test_distilbert() -> None:
    cost = memory.count("distilbert-base-uncased")
    assert cost.mask_bits == 28_901_376
    assert cost.mask_bytes == 3_612_672
    assert cost.head_parameters == 768 * 768 + 768 + 2 * 768 + 2  # its checkpoint has no pooler


def test_a_shape_has_the_bytes_of_a_loaded_base(tiny_bert: str) -> None:
    cost = memory.count(tiny_bert)
    assert cost.base_bytes == load_base(tiny_bert).nbytes
    assert cost.mask_bits == 4 * 32 * 32 + 2 * 32 * 64 + 32 * 32  # block 2 of 3, pooler


def test_figure_3(tmp_path: Path) -> None:
    assert main(["figure3", "--quick", "--output", str(tmp_path)]) == 0
    bert = json.loads((tmp_path / "figure3.json").read_text())["values"]["bert-base-uncased"]
    less = [point["tasks"] for point in bert["tasks"] if point["masking_bytes"] < point["finetuning_bytes"]]
    assert less == list(range(2, 13))
    assert (tmp_path / "figure3.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("base_bytes", [104, 200, 204, 208, 4000])
def test_break_even_is_the_first_number_of_tasks_that_takes_less(base_bytes: int) -> None:
    cost = memory.Cost(base_bytes // 4, 8 * 100, 100, 0, 0, 26)
    first = memory.break_even(cost)
    takes_less = [cost.masked_bytes(n) < cost.finetuned_bytes(n) for n in range(1, first + 1)]
    assert takes_less == [False] * (first - 1) + [True]
