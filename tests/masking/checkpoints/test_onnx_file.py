"""ONNX files answer as the folder beside them, at any size of a batch."""

import builtins
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from mask_store import TaskKind
from masking import Base, ExportError, TaskSpec
from masking.architectures.heads import auto_class
from masking.checkpoints import export_task
from masking.checkpoints.onnx_file import FILE
from tests.support.models import random_bundle

BATCHES = (["the movie was good and the plot was terrible", "bad", "anna works"], ["a"])
CASES = [
    ("sequence-classification", ("bad", "good", "mixed")),
    pytest.param("embedding", (), marks=pytest.mark.slow),
    pytest.param("multiple-choice", (), marks=pytest.mark.slow),
]
needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra onnx, and onnxruntime",
)


@needs_onnx
@pytest.mark.parametrize(("kind", "labels"), CASES)
def test_onnx_runtime_answers_as_transformers(
    base: Base, tmp_path: Path, kind: TaskKind, labels: tuple[str, ...]
) -> None:
    import onnxruntime  # noqa: PLC0415 (optional)

    spec = TaskSpec(kind, labels, max_length=32, pooling="mean" if kind == "embedding" else None)
    export_task(random_bundle(base, spec), base, tmp_path, onnx=True)
    model = getattr(transformers, auto_class(kind)).from_pretrained(tmp_path).eval()
    output = "last_hidden_state" if kind == "embedding" else "logits"
    session = onnxruntime.InferenceSession(tmp_path / FILE, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == [output]
    for texts in BATCHES:
        given = dict(base.tokenizer(texts, padding=True, return_tensors="pt"))
        if kind == "multiple-choice":
            given = {name: tensor.unsqueeze(0) for name, tensor in given.items()}
        with torch.no_grad():
            expected = model(**given)[output].numpy()
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_missing_is_named_before_anything_is_written(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = {"onnxscript"}
    monkeypatch.setattr(
        "masking.checkpoints.onnx_file.find_spec", lambda name: None if name in missing else builtins
    )
    bundle = random_bundle(base, TaskSpec("embedding", (), max_length=32, pooling="cls"))
    with pytest.raises(ExportError, match=r"needs onnxscript, .*: pip install 'maskserve\[onnx\]'"):
        export_task(bundle, base, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()
