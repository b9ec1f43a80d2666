from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.paper.table3_transfer import judge
from tests.support.experiments import command, picture, run, write_tasks
from tests.support.learning_data import write_lines


def test_table3(tmp_path: Path, tiny_bert: str) -> None:
    values = run(tmp_path, tiny_bert, "table3", "blocks=0-", "--seeds", "0", "1")["values"]
    assert picture(tmp_path, "table3")
    assert values["majority"] == {"sst2": 0.5, "sem": 0.5}
    cells = {(c["method"], c["learned_from"], c["measured_on"]): c["by_seed"] for c in values["accuracy"]}
    assert len(cells) == 8
    assert {len(by_seed) for by_seed in cells.values()} == {2}
    text = (tmp_path / "out" / "table3-quick.md").read_text()
    assert "Scale: quick" in text
    assert "agree" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("masking", "finetuning", "holds"), [(0.7, 0.71, True), (0.7, 0.75, False), (0.5, 0.4, False)]
)
def test_the_claim(masking: float, finetuning: float, holds: bool) -> None:
    accuracies = {
        (method, source, target): [value if source != target else 0.0]
        for method, value in (("masking", masking), ("finetuning", finetuning))
        for source in ("a", "b")
        for target in ("a", "b")
    }
    assert judge(accuracies, {"a": 0.5, "b": 0.5}).holds is holds


def test_tasks_that_do_not_fit(tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_tasks(tmp_path / "data")
    for split in ("train", "dev"):
        rows = [{"text": "the movie", "label": label} for label in ("film", "plot")]
        write_lines(data / "trec" / f"{split}.jsonl.gz", rows)
    assert main(command(tmp_path, tiny_bert, "table3", "--tasks", "sst2")) == 2
    assert "give --tasks two names" in capsys.readouterr().err
    assert main(command(tmp_path, tiny_bert, "table3", "--tasks", "sst2", "trec")) != 0
    assert "both must have the same labels" in capsys.readouterr().err
