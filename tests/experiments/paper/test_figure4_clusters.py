from pathlib import Path

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.paper.figure4_clusters import ENCODERS, View, judge
from tests.support.experiments import command, picture, run, write_tasks


def test_figure4(tmp_path: Path, tiny_bert: str) -> None:
    found = run(tmp_path, tiny_bert, "figure4", "blocks=0-", "--seeds", "0", "1")["values"]["sst2"]
    assert picture(tmp_path, "figure4")
    assert {name: len(values) for name, values in found["silhouettes"].items()} == {
        "pretrained": 1,
        "finetuning": 2,
        "masking": 2,
    }
    assert {name: np.shape(points) for name, points in found["maps"].items()} == dict.fromkeys(
        ENCODERS, (12, 2)
    )
    assert sorted(set(found["labels"])) == ["negative", "positive"]


@pytest.mark.parametrize(("masking", "holds"), [(0.5, True), (0.05, False)])
def test_the_claim(masking: float, holds: bool) -> None:
    silhouettes = {"pretrained": [0.0], "finetuning": [0.4, 0.5], "masking": [masking]}
    assert judge(View("sst2", [], {}, silhouettes)).holds is holds


def test_words_have_no_class_at_cls(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "data")
    assert main(command(tmp_path, tiny_bert, "figure4", "--tasks", "ner")) == 2
    assert "ner does not have" in capsys.readouterr().err


def test_too_few_dev_rows_for_a_map(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "data")
    assert main([*command(tmp_path, tiny_bert, "figure4", "--tasks", "sst2"), "--rows", "12/3"]) == 2
    assert "sst2 has 3 rows" in capsys.readouterr().err
