"""Every architecture learns a task, publishes, serves and exports it, by the commands' own functions."""

from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

import maskserve
from masking import load_base
from masking.checkpoints import export_task
from tests.support.learning_data import tiny_options
from tests.support.models import ARCHITECTURES, LATER, tiny_base
from tests.support.serving import expected_scores, scores_in, serving

WITHOUT_CLASS = ("roformer",)
"""Whose classifiers in transformers no head is known of."""


@pytest.mark.parametrize("architecture", (*ARCHITECTURES, *LATER))
def test_learned_published_served_and_exported(architecture: str, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base", architecture)
    options = tiny_options(tmp_path, folder, epochs=1)
    maskserve.learn(**options.model_dump(by_alias=False))
    base, store = load_base(folder), maskserve.open_store(tmp_path / "store")
    assert store.current("demo").number == 1
    (layers,) = (member.info.layers for member in store.load("demo").members)
    assert {layer.name for layer in layers} >= base.blocks.linears(base.encoder).keys()
    with serving(base, tmp_path / "store") as client:
        answer = client.post("/predict/demo", json={"inputs": "the movie was good"}).json()
    assert scores_in(answer) == pytest.approx(expected_scores(base, store.load("demo")), abs=1e-4)
    if architecture not in WITHOUT_CLASS:
        export_task(store.load("demo"), base, tmp_path / "exported")
        classify: Any = pipeline("text-classification", model=str(tmp_path / "exported"), top_k=None)
        (entries,) = classify(["the movie was good"])
        assert [one["label"] for one in entries] == [one["label"] for one in answer]
        assert scores_in(entries) == pytest.approx(scores_in(answer), abs=1e-4)
