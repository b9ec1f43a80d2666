"""Learned masks as folders of transformers: they answer alike, or are refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mask_store import HeadTensorInfo, MaskBundle, TaskManifest
from masking import (
    MaskedEncoder,
    MaskSettings,
    TaskBatch,
    TaskSpec,
    UnknownLayerError,
    UnsupportedArchitectureError,
    load_base,
)
from masking import load_task as load
from masking.checkpoints import export_task
from masking.errors import ExportError
from tests.masking.checkpoints.test_signs import features_of, flat, folded_logits
from tests.support.models import random_bundle, tiny_base

SPECS = {
    "texts": TaskSpec("sequence-classification", ("bad", "good", "mixed"), max_length=32),
    "words": TaskSpec("token-classification", ("O", "B-PER", "I-PER"), max_length=32),
}
EXPORTED = (
    *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "eurobert", "gte"),
    *("modernbert", "mpnet", "nomic_bert"),
)
_MASKS = MaskSettings(blocks="0-", initial_sparsity=0.2)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("architecture", EXPORTED)
def test_an_exported_mask_answers_alike(architecture: str, spec: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "base", architecture))
    bundle = random_bundle(base, SPECS[spec], settings=_MASKS)
    task = load(bundle, base)
    (served,) = MaskedEncoder(base).logits([TaskBatch(task, features_of(task))])
    exported = folded_logits(bundle, base, tmp_path / "exported")
    np.testing.assert_allclose(flat(served), flat(exported), atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "activation"),
    [("distilbert", "relu"), ("electra", "gelu"), ("eurobert", "gelu"), ("modernbert", "gelu-norm")],
)
def test_a_head_of_an_earlier_release_has_tanh(architecture: str, activation: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "base", architecture))
    bundle = random_bundle(base, SPECS["texts"])
    assert isinstance(bundle.manifest, TaskManifest)
    assert bundle.manifest.head_activation == activation
    earlier = rewritten(bundle, head_activation=None)
    assert '"head_activation"' not in earlier.manifest.to_json()
    logits = [
        MaskedEncoder(base).logits([TaskBatch(task, features_of(task))])
        for task in (load(one, base) for one in (bundle, earlier))
    ]
    assert np.abs(flat(logits[0][0]) - flat(logits[1][0])).max() > 1e-3
    with pytest.raises(
        ExportError, match=f"has tanh .* of '{architecture}' have {activation}.* learned anew"
    ):
        export_task(earlier, base, tmp_path / "exported")


def test_words_of_an_earlier_release_have_no_pooler(tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "base", "modernbert"))
    bundle = random_bundle(base, SPECS["words"])
    head = {name: tensor for name, tensor in bundle.members[0].head.items() if "pooler" not in name}
    assert len(head) == 2 < len(bundle.members[0].head)
    with pytest.raises(UnknownLayerError, match=r"must hold {.*pooler"):
        load(rewritten(bundle, head), base)
    earlier = rewritten(bundle, head, head_activation=None)
    task = load(earlier, base)
    (served,) = MaskedEncoder(base).logits([TaskBatch(task, features_of(task))])
    assert served[0].shape == (6, 3)
    with pytest.raises(ExportError, match=r"has no layer before its classifier, .* have gelu-norm"):
        export_task(earlier, base, tmp_path / "exported")


def rewritten(bundle: MaskBundle, head: Mapping[str, Any] | None = None, **fields: Any) -> MaskBundle:
    """The same bundle with other fields, and a head of other tensors."""
    (member,) = bundle.members
    head = member.head if head is None else head
    own = [
        layer for layer in member.info.layers if "pooler" not in layer.name or f"{layer.name}.weight" in head
    ]
    described = tuple(HeadTensorInfo(name=name, shape=one.shape) for name, one in head.items())
    manifest = bundle.manifest.model_copy(update={"head": described, "layers": tuple(own), **fields})
    assert isinstance(manifest, TaskManifest)
    return MaskBundle.create(manifest, {layer.name: member.masks[layer.name] for layer in own}, dict(head))


def test_a_head_of_another_form_is_refused(tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "base", "roformer"))
    with pytest.raises(UnsupportedArchitectureError, match=r"'roformer' For.* a head that no task has"):
        export_task(random_bundle(base, SPECS["texts"]), base, tmp_path / "exported")
