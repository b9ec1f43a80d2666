from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.paper.figure4_clusters import ENCODERS, View, judge
from experiments.published.analysis import Encoder
from tests.support.experiments import command, picture, run, write_tasks
from tests.support.models import tiny_base


def test_figure4(tmp_path: Path, tiny_bert: str) -> None:
    other = tiny_base(tmp_path / "other", "roberta")
    options = ("--base", tiny_bert, other, "--seeds", "1", "2")
    report = run(tmp_path, tiny_bert, "figure4", "blocks=0-", *options)
    assert picture(tmp_path, "figure4")
    views = report["values"]["views"]
    assert [view["base"] for view in views] == ["tiny-bert", "other"]
    for view in views:
        for measured in ("silhouettes", "agreements"):
            assert {name: len(values) for name, values in view[measured].items()} == {
                "pretrained": 1,
                "finetuning": 2,
                "masking": 2,
            }
        shapes = {name: np.shape(points) for name, points in view["maps"].items()}
        assert shapes == dict.fromkeys(ENCODERS, (12, 2))
        assert sorted(set(view["labels"])) == ["negative", "positive"]
    assert [claim["rule"] for claim in report["claims"]] == ["F4", "F4"]


def test_the_claim_is_about_neighbours_in_the_maps() -> None:
    labels = ["a"] * 20 + ["b"] * 20
    apart = np.array([[float(place), 100.0 * (place > 19)] for place in range(40)], np.float32)
    mixed = apart[np.random.default_rng(0).permutation(40)]
    maps: dict[Encoder, list[Any]] = {"pretrained": [mixed], "finetuning": [apart], "masking": [apart]}
    verdict = judge(View("base", "sst2", labels, maps, {}))
    assert verdict.finding.holds is True
    assert verdict.finding.values["masking"] == 1.0
    assert judge(View("base", "sst2", labels, {**maps, "masking": [mixed]}, {})).finding.holds is False


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
