from pathlib import Path

import pytest

from mask_store import TaskKind
from masking import Base, TaskSpec, task_codec
from masking.architectures.heads import CLASSES
from masking.checkpoints import CopySigns, fit_scales, load_copy
from tests.masking.checkpoints.test_signs import INPUTS
from tests.support.models import finetuned
from training.copies.copied_text import Agreement, copy_logits
from training.loop.evaluation import features_logits


@pytest.mark.parametrize("kind", list(CLASSES))
def test_the_task_answers_more_like_the_copy(
    kind: TaskKind, base: Base, tiny_bert: str, tmp_path: Path
) -> None:
    copied = load_copy(finetuned(tiny_bert, tmp_path / "copy", kind, step=0.03), base)
    signs = CopySigns(base, copied)
    spec = TaskSpec(kind, copied.labels, max_length=32, pair=kind == "reranking")
    codec = task_codec(spec, base.tokenizer)
    features = codec.encode(INPUTS[kind] * 20, truncate=False)
    wanted, mean = copy_logits(copied, base, codec, features), signs.mean_scales
    fitted = fit_scales(signs, mean, features)
    before, after = (
        Agreement.of(
            kind,
            wanted,
            features_logits(
                signs.bundle("t", spec, scales, settings={}, metrics={}), base, features, max_rows=32
            ),
        ).divergence
        for scales in (mean, fitted)
    )
    assert 0 <= after < before / 2
    assert all(bool((scale >= 0).all()) for scale in fitted.values())
