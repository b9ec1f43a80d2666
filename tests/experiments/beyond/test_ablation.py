from pathlib import Path

import pytest

from experiments.beyond import ablation
from experiments.beyond.ablation import VARIANTS, changes_of, gain
from experiments.common.scores import Scores
from tests.support.experiments import run
from training.options import PRESETS


def test_ablation(tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = (VARIANTS[0], *(v for v in VARIANTS if v.name in {"head trained", "learning rate times 2"}))
    monkeypatch.setattr(ablation, "VARIANTS", chosen)
    values = run(tmp_path, tiny_bert, "ablation", "--tasks", "sem", "ner")["values"]
    assert list(values) == [variant.name for variant in chosen]
    first = values[chosen[0].name]
    assert first["gain"] == 0.0
    for scores in values.values():
        gains = [scores[task]["mean"] - first[task]["mean"] for task in ("sem", "ner")]
        assert scores["gain"] == pytest.approx(sum(gains) / 2)


def test_gain_is_the_mean_over_tasks_in_points() -> None:
    paper = {"sem": Scores((0.8, 0.9)), "ner": Scores((0.5,))}
    assert gain(paper, {"sem": Scores((0.86, 0.86)), "ner": Scores((0.52,))}) == pytest.approx(1.5)


def test_a_head_apart_keeps_the_rate_of_the_scale() -> None:
    (apart,) = (variant for variant in VARIANTS if variant.head_apart)
    assert changes_of(apart, 0.002) == {"head": "trained", "head_lr": 0.002, "lr": 0.004}
    assert changes_of(VARIANTS[0], 0.002) == {"lr": 0.002}


def test_every_variant_but_the_first_changes_the_papers_setting() -> None:
    paper = PRESETS["paper"]
    assert not VARIANTS[0].changes
    for variant in VARIANTS[1:]:
        assert set(variant.changes) <= set(paper)
        assert variant.rate != 1.0 or any(paper[name] != value for name, value in variant.changes.items())
