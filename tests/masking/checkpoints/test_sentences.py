"""Folders of sentence-transformers: read, refused and written, held against its own encode."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mask_store import Pooling, SignManifest
from masking import (
    Base,
    CopyError,
    EmbeddingPrediction,
    MaskedEncoder,
    TaskBatch,
    TaskSpec,
    TextInput,
    load_base,
    load_task,
)
from masking.checkpoints import CopySigns, export_task, fit_scales, load_copy, read_sentence_encoder
from masking.checkpoints.sentences import write_sentence_encoder
from masking.tasks.predictions import Floats
from tests.support.models import finetuned, random_bundle, sign_bundle, tiny_base

with warnings.catch_warnings(action="ignore"):  # its own imports warn
    from sentence_transformers import SentenceTransformer

TEXTS = ["the movie was good", "bad", "a terrible film . anna works in london"]


def encoded(folder: Path | str) -> Floats:
    """What sentence-transformers makes of the texts."""
    with warnings.catch_warnings(action="ignore"):
        found: Floats = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    return found


def served(base: Base, bundle: Any) -> Floats:
    task = load_task(bundle, base)
    features = task.codec.encode([TextInput(text) for text in TEXTS], truncate=False)
    logits = MaskedEncoder(base).logits([TaskBatch(task, features)])[0]
    decoded = [task.codec.decode(one) for one in logits]
    return np.stack([one.scores for one in decoded if isinstance(one, EmbeddingPrediction)])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_base_with_its_files_is_a_task(tmp_path: Path, pooling: Pooling) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base"))
    write_sentence_encoder(Path(folder), pooling, max_length=24, width=32)
    copied = load_copy(folder, base)
    assert (copied.kind, copied.pooling, copied.max_length, copied.labels) == ("embedding", pooling, 24, ())
    bundle = sign_bundle(base, folder)
    manifest = bundle.manifest
    assert isinstance(manifest, SignManifest)
    assert (manifest.layers, manifest.own, manifest.head, manifest.pooling) == ((), (), (), pooling)
    assert len(bundle.to_bytes()) < 2048
    np.testing.assert_allclose(served(base, bundle), encoded(folder), atol=1e-6)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "xlm-roberta"])
@pytest.mark.parametrize("form", ["signs", "mask"])
def test_exported_folders_embed_alike(tmp_path: Path, architecture: str, form: str) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base", architecture))
    if form == "signs":
        bundle = sign_bundle(base, finetuned(folder, tmp_path / "copy", "embedding"), pooling="mean")
    else:
        spec = TaskSpec("embedding", (), max_length=32, pooling="cls")
        bundle = random_bundle(base, spec)
    export_task(bundle, base, tmp_path / "out")
    np.testing.assert_allclose(encoded(tmp_path / "out"), served(base, bundle), atol=1e-5)
    again = read_sentence_encoder(str(tmp_path / "out"))
    assert again is not None
    assert (again.pooling, again.max_length) == (bundle.manifest.pooling, 32)


def test_what_sentence_transformers_saves_is_read(tmp_path: Path, tiny_bert: str) -> None:
    write_sentence_encoder(Path(tiny_base(tmp_path / "base")), "cls", max_length=24, width=32)
    with warnings.catch_warnings(action="ignore"):
        SentenceTransformer(str(tmp_path / "base"), device="cpu").save(str(tmp_path / "saved"))
    found = read_sentence_encoder(str(tmp_path / "saved"))
    assert found is not None
    assert found.pooling == "cls"
    assert read_sentence_encoder(tiny_bert) is None


def test_scales_are_fitted_to_embeddings(tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base"))
    copied = load_copy(finetuned(folder, tmp_path / "copy", "embedding"), base, pooling="mean")
    signs = CopySigns(base, copied)
    spec = TaskSpec("embedding", (), max_length=32, pooling="mean")
    task = load_task(signs.bundle("a", spec, signs.mean_scales, settings={}, metrics={}), base)
    features = task.codec.encode([TextInput(text) for text in TEXTS * 8], truncate=False)
    fitted = fit_scales(signs, signs.mean_scales, features)
    assert fitted.keys() == signs.mean_scales.keys()
    assert any(not np.allclose(fitted[name], scale) for name, scale in signs.mean_scales.items())


def _write(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_write("modules.json", lambda m: [*m[:2], {**m[2], "type": "x.Dense"}]), "lists .*Dense; wanted"),
        (_write("modules.json", lambda m: m[:1]), "lists Transformer; wanted: Transformer, Pooling"),
        (_write("modules.json", lambda m: [{**m[0], "path": "0_T"}, *m[1:]]), "in the folder '0_T'"),
        (_write("1_Pooling/config.json", lambda c: {"pooling_mode": "max"}), "pooling is max, and only mean"),
        (_write("1_Pooling/config.json", lambda c: {}), "pooling is none"),
        (
            _write("1_Pooling/config.json", lambda c: {**c, "pooling_mode_max_tokens": True}),
            "mean_tokens, pooling_mode_max_tokens",
        ),
        (_write("sentence_bert_config.json", lambda c: {"do_lower_case": True}), "do_lower_case"),
        (
            _write("config_sentence_transformers.json", lambda c: {"default_prompt_name": "q"}),
            "default_prompt_name",
        ),
        (lambda folder: (folder / "modules.json").write_text("["), "modules.json can't be loaded"),
        (_write("modules.json", lambda m: {"0": m}), "modules.json must be a JSON array"),
        (_write("modules.json", lambda m: [{"type": "x"}]), "list of objects with type and path"),
        (_write("1_Pooling/config.json", lambda c: [c]), "1_Pooling/config.json must be a JSON object"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, change: Callable[[Path], Any], message: str) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base"))
    write_sentence_encoder(Path(folder), "mean", max_length=24, width=32)
    change(Path(folder))
    with pytest.raises(CopyError, match=message):
        load_copy(folder, base)


def test_an_encoder_alone_needs_a_pooling(tmp_path: Path, tiny_bert: str, base: Base) -> None:
    with pytest.raises(CopyError, match=r"BertModel, which is no classifier; .* or a pooling, mean or cls"):
        load_copy(tiny_bert, base)
    assert load_copy(tiny_bert, base, pooling="cls").pooling == "cls"
    classifier = finetuned(tiny_bert, tmp_path / "copy", "sequence-classification")
    with pytest.raises(CopyError, match="goes with an encoder alone"):
        load_copy(classifier, base, pooling="cls")


def test_a_classifier_on_the_base_unchanged_is_a_head_alone(tmp_path: Path, tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    bundle = sign_bundle(base, finetuned(tiny_bert, tmp_path / "copy", "token-classification", step=0.0))
    assert isinstance(bundle.manifest, SignManifest)
    assert (bundle.manifest.layers, bundle.manifest.own) == ((), ())
    assert {tensor.name for tensor in bundle.manifest.head} == {"classifier.weight", "classifier.bias"}
    assert load_task(bundle, base).masks_nbytes == 0
