"""Learned masks as folders of transformers: they answer alike, or are refused."""

from pathlib import Path

import numpy as np
import pytest

from masking import MaskedEncoder, MaskSettings, TaskBatch, TaskSpec, UnsupportedArchitectureError, load_base
from masking import load_task as load
from masking.checkpoints import export_task
from masking.errors import ExportError
from tests.masking.checkpoints.test_signs import features_of, flat, folded_logits
from tests.support.models import random_bundle, tiny_base

SPECS = {
    "texts": TaskSpec("sequence-classification", ("bad", "good", "mixed"), max_length=32),
    "words": TaskSpec("token-classification", ("O", "B-PER", "I-PER"), max_length=32),
}
_MASKS = MaskSettings(blocks="0-", initial_sparsity=0.2)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    "architecture", ["albert", "bert", "camembert", "deberta", "deberta-v2", "gte", "mpnet", "nomic_bert"]
)
def test_an_exported_mask_answers_alike(architecture: str, spec: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "base", architecture))
    bundle = random_bundle(base, SPECS[spec], settings=_MASKS)
    task = load(bundle, base)
    (served,) = MaskedEncoder(base).logits([TaskBatch(task, features_of(task))])
    exported = folded_logits(bundle, base, tmp_path / "exported")
    np.testing.assert_allclose(flat(served), flat(exported), atol=1e-5)


@pytest.mark.parametrize("architecture", ["distilbert", "electra", "eurobert", "modernbert"])
def test_a_head_of_another_activation_is_refused(architecture: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "base", architecture))
    with pytest.raises(ExportError, match=f"has tanh .* classifiers of '{architecture}' have (relu|gelu)"):
        export_task(random_bundle(base, SPECS["texts"]), base, tmp_path / "exported")


@pytest.mark.parametrize(("architecture", "spec"), [("modernbert", "words"), ("roformer", "texts")])
def test_a_head_of_another_form_is_refused(architecture: str, spec: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "base", architecture))
    with pytest.raises(UnsupportedArchitectureError, match=f"'{architecture}' For.* a head that no task has"):
        export_task(random_bundle(base, SPECS[spec]), base, tmp_path / "exported")
