"""Signs of copies: served as the folded model of transformers answers, in any batch and precision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from mask_store import MaskBundle, SignManifest, TaskKind
from masking import (
    Base,
    ChoiceInput,
    Features,
    LoadedTask,
    MaskedEncoder,
    MaskSettings,
    TaskBatch,
    TaskInput,
    TextInput,
    UnknownLayerError,
    WordsInput,
    collate,
    load_base,
    load_task,
)
from masking.architectures.heads import CLASSES
from masking.checkpoints import export_task
from masking.inference import ResidentWeights
from masking.kernels import Precision
from masking.tasks.predictions import Floats
from tests.masking.inference.test_encoder import SPECS
from tests.support.kernels.cases import LINES
from tests.support.models import ARCHITECTURES, COPY_LABELS, finetuned, random_bundle, sign_bundle, tiny_base

FAR = {"fp32": 1e-5, "bf16": 0.02, "int8": 0.05}
COPIED = ("albert", "camembert", "deberta", "deberta-v2", "eurobert", "gte", "modernbert", "nomic_bert")
POOLING: dict[str, dict[str, Any]] = {"eurobert": {"classifier_pooling": "bos"}}
CASES: list[tuple[str, TaskKind]] = [
    *((architecture, "sequence-classification") for architecture in (*ARCHITECTURES, *COPIED)),
    ("deberta-v2", "token-classification"),
    ("eurobert", "token-classification"),
    ("modernbert", "token-classification"),
    ("bert", "token-classification"),
    ("bert", "multi-label-classification"),
    ("distilbert", "regression"),
    ("roberta", "reranking"),
    *((architecture, "multiple-choice") for architecture in ("albert", "bert", "modernbert", "roberta")),
    ("electra", "multiple-choice"),
]
INPUTS: dict[TaskKind, list[TaskInput]] = {
    "sequence-classification": [TextInput("the movie was great"), TextInput("bad plot, terrible acting !")],
    "token-classification": [WordsInput(("anna", "lost", "her", "card", "in", "london"))],
    "multi-label-classification": [TextInput("the movie was great"), TextInput("bad plot")],
    "regression": [TextInput("the movie was great"), TextInput("bad plot")],
    "reranking": [TextInput("the movie", "was great"), TextInput("bad plot", "terrible acting !")],
    "multiple-choice": [ChoiceInput("i lost my", ("card", "money please", "plot"))],
}


def features_of(task: LoadedTask) -> list[Features]:
    return task.codec.encode(INPUTS[task.spec.kind], truncate=False)


def folded_logits(bundle: MaskBundle, base: Base, folder: Path) -> list[Floats]:
    """Logits of the exported folder, loaded and computed by transformers."""
    export_task(bundle, base, folder)
    kind = bundle.manifest.kind
    model = getattr(transformers, f"AutoModel{CLASSES[kind]}").from_pretrained(folder).eval()
    task = load_task(bundle, base)
    found = []
    for item in features_of(task):
        batch = collate(item.rows, base.tokenizer, torch.device("cpu"))
        if kind == "multiple-choice":
            batch = {name: tensor.unsqueeze(0) for name, tensor in batch.items()}
        with torch.no_grad():
            logits = model(**batch).logits
        rows = logits[0].unsqueeze(1) if kind == "multiple-choice" else logits
        found.append(task.codec.gather(item, list(rows.numpy())))
    return found


def flat(logits: list[Floats]) -> Floats:
    return np.concatenate([one.ravel() for one in logits])


@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_served_logits_are_those_of_the_folded_model(
    architecture: str, kind: TaskKind, tmp_path: Path
) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base", architecture))
    own = POOLING.get(architecture, {})
    bundle = sign_bundle(base, finetuned(folder, tmp_path / "copy", kind, **own))
    settings = MaskSettings(blocks="0-", initial_sparsity=0.2)
    task = load_task(bundle, base)
    mask = load_task(random_bundle(base, SPECS["text"], settings=settings), base)
    alone = MaskedEncoder(base).logits([TaskBatch(task, features_of(task))])[0]
    batch = [TaskBatch(task, features_of(task)), TaskBatch(mask, features_of(mask))]
    together, masked = MaskedEncoder(base).logits(batch)
    expected = flat(folded_logits(bundle, base, tmp_path / "exported"))
    np.testing.assert_allclose(flat(alone), expected, atol=1e-5)
    np.testing.assert_allclose(flat(together), expected, atol=1e-5)
    (only,) = MaskedEncoder(base).logits([TaskBatch(mask, features_of(mask))])
    np.testing.assert_allclose(flat(masked), flat(only), atol=1e-5)


@pytest.mark.parametrize("precision", LINES)
def test_mixed_batches_in_each_precision(precision: Precision, tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base"))
    bundles = [
        sign_bundle(base, finetuned(folder, tmp_path / kind, kind, seed=seed), task=f"s{seed}")
        for seed, kind in enumerate(CLASSES)
    ]
    bundles[1:1] = [random_bundle(base, spec, seed=seed) for seed, spec in enumerate(SPECS.values())]
    weights = ResidentWeights.of(base, precision)
    tasks = [load_task(bundle, base, weights) for bundle in bundles]
    batch = [TaskBatch(task, features_of_any(task)) for task in tasks]
    exact = MaskedEncoder(base).logits(
        [TaskBatch(load_task(b, base), one.features) for b, one in zip(bundles, batch, strict=True)]
    )
    found = MaskedEncoder(base, weights).logits(batch)
    for one, wanted in zip(found, exact, strict=True):
        assert np.abs(flat(one) - flat(wanted)).max() <= FAR[precision] * np.abs(flat(wanted)).max()


def features_of_any(task: LoadedTask) -> list[Features]:
    if task.spec.pair:
        return task.codec.encode([TextInput("a great movie", "he lost it")], truncate=False)
    return features_of(task)


def test_a_copy_keeps_what_it_has_of_its_own(tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base"))
    manifest = sign_bundle(base, finetuned(folder, tmp_path / "copy", "sequence-classification")).manifest
    assert isinstance(manifest, SignManifest)
    assert manifest.labels == COPY_LABELS
    assert manifest.copied.name == "copy"
    names = {layer.name for layer in manifest.layers}
    assert len(names) == 3 * 6 + 1
    own = {tensor.name for tensor in manifest.own}
    assert {f"{name}.bias" for name in names} < own
    assert {"embeddings.LayerNorm.weight", "encoder.layer.2.output.LayerNorm.bias"} < own
    assert {tensor.name for tensor in manifest.head} == {"classifier.weight", "classifier.bias"}


def test_a_copy_keeps_its_rms_norms(tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base", "eurobert"))
    bundle = sign_bundle(base, finetuned(folder, tmp_path / "copy", "token-classification"))
    norms = {
        f"layers.{block}.{part}_layernorm.weight"
        for block in range(3)
        for part in ("input", "post_attention")
    }
    assert {"norm.weight", *norms} <= bundle.members[0].own.keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_changed_rows_of_embeddings_are_served_beside_other_tasks(architecture: str, tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base", architecture))
    used = base.tokenizer("the movie was great bad plot")["input_ids"]
    copies = [
        finetuned(folder, tmp_path / f"copy{seed}", "sequence-classification", seed=seed, tokens=tokens)
        for seed, tokens in enumerate((used[::2], used[1::2], ()))
    ]
    bundles = [sign_bundle(base, copy, keeps_rows=True) for copy in copies]
    rows = [bundle.manifest.embeddings for bundle in bundles if isinstance(bundle.manifest, SignManifest)]
    assert [len(one) for one in rows] == [1, 1, 0]
    assert rows[0][0].columns - rows[0][0].zeros == len(set(used[::2]))
    bundles.append(random_bundle(base, SPECS["text"]))
    tasks = [load_task(bundle, base) for bundle in bundles]
    batch = [TaskBatch(task, features_of(task)) for task in tasks]
    together = MaskedEncoder(base).logits(batch[::-1])[::-1]
    for number, bundle in enumerate(bundles[:3]):
        expected = flat(folded_logits(bundle, base, tmp_path / f"exported{number}"))
        np.testing.assert_allclose(flat(together[number]), expected, atol=1e-5)
    lost = MaskedEncoder(base).logits(
        [TaskBatch(load_task(sign_bundle(base, copies[0]), base), features_of(tasks[0]))]
    )
    assert np.abs(flat(lost[0]) - flat(together[0])).max() > 1e-4
    (alone,) = MaskedEncoder(base).logits(batch[3:])
    np.testing.assert_allclose(flat(together[3]), flat(alone), atol=1e-5)
    assert tasks[0].signs_nbytes - tasks[2].signs_nbytes == len(set(used[::2])) * (8 + rows[0][0].width * 4)


@pytest.mark.parametrize("architecture", ["albert", "bert", "electra", "roberta"])
def test_the_embedding_of_token_types_is_the_copys(architecture: str, tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base", architecture))
    kinds: tuple[TaskKind, ...] = ("sequence-classification", "reranking")  # of texts, and of pairs
    bundles = [sign_bundle(base, finetuned(folder, tmp_path / kind, kind, types=True)) for kind in kinds]
    names = [
        {rows.name for rows in bundle.manifest.embeddings}
        for bundle in bundles
        if isinstance(bundle.manifest, SignManifest)
    ]
    assert names == [{"embeddings.token_type_embeddings.weight"}] * 2
    bundles.append(random_bundle(base, SPECS["text"], settings=MaskSettings(blocks="0-")))
    tasks = [load_task(bundle, base) for bundle in bundles]
    together = MaskedEncoder(base).logits([TaskBatch(task, features_of(task)) for task in tasks])
    for number, bundle in enumerate(bundles[:2]):
        expected = flat(folded_logits(bundle, base, tmp_path / f"exported{number}"))
        np.testing.assert_allclose(flat(together[number]), expected, atol=1e-5)
    plain = sign_bundle(base, finetuned(folder, tmp_path / "plain", "sequence-classification"))
    assert isinstance(plain.manifest, SignManifest)
    assert not plain.manifest.embeddings


def test_rows_of_another_base_are_refused(tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base"))
    copy = finetuned(folder, tmp_path / "copy", "sequence-classification", tokens=(5,))
    bundle = sign_bundle(base, copy, keeps_rows=True)
    assert isinstance(bundle.manifest, SignManifest)
    (rows,) = bundle.manifest.embeddings
    odd = bundle.manifest.model_copy(update={"embeddings": (rows.model_copy(update={"width": 7}),)})
    bundle.manifest = odd
    with pytest.raises(
        UnknownLayerError, match=r"embedding 'embeddings.word_embeddings.weight' .* is \(121, 7\)"
    ):
        load_task(bundle, base)


def test_memory_is_counted(tmp_path: Path) -> None:
    base = load_base(folder := tiny_base(tmp_path / "base"))
    bundle = sign_bundle(base, finetuned(folder, tmp_path / "copy", "sequence-classification"))
    weights = ResidentWeights(base.device)
    task = load_task(bundle, base, weights)
    numbers = bundle.members[0]
    assert task.signs_nbytes == sum(
        array.nbytes for part in (numbers.scales, numbers.own) for array in part.values()
    )
    assert task.nbytes == task.masks_nbytes + task.head_nbytes + task.signs_nbytes
    before = weights.nbytes
    MaskedEncoder(base, weights).logits([TaskBatch(task, features_of(task))])
    assert weights.nbytes - before == 4 * (32 * 32 + 2 * 32 * 64)
