"""What is no copy of the base is refused, with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from mask_store import MaskBundle, SignManifest
from masking import Base, CopyError, UnknownLayerError, load_task
from masking.checkpoints import load_copy
from tests.support.models import COPY_LABELS, finetuned, sign_bundle, tiny_base


def edit(folder: str, name: str, **fields: Any) -> str:
    path = Path(folder) / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


@pytest.fixture
def copy(tiny_bert: str, tmp_path: Path) -> str:
    return finetuned(tiny_bert, tmp_path / "copy", "sequence-classification")


def test_a_copy_is_read(base: Base, copy: str) -> None:
    read = load_copy(copy, base)
    assert (read.name, read.kind, read.labels) == ("copy", "sequence-classification", COPY_LABELS)
    assert read.max_length == base.max_positions
    assert all(far < 0.3 for far in read.moved.values())


def test_a_copy_without_a_tokenizer_has_the_bases(base: Base, copy: str) -> None:
    for file in Path(copy).glob("tokenizer*"):
        file.unlink()
    assert load_copy(copy, base).max_length == base.max_positions


def refuse(model: str, base: Base, reason: str) -> None:
    with pytest.raises(CopyError, match=f"^model '.*': .*{reason}"):
        load_copy(model, base)


def test_another_model(base: Base, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", seed=5)
    refuse(
        finetuned(other, tmp_path / "copy", "token-classification"), base, r"not finetuned from base .*14\d%"
    )


def test_other_shapes(base: Base, tmp_path: Path) -> None:
    deeper, wider = tiny_base(tmp_path / "deep", blocks=4), tiny_base(tmp_path / "wide", hidden=64)
    refuse(finetuned(deeper, tmp_path / "a", "multiple-choice"), base, r"has encoder.layer.3\.")
    refuse(finetuned(wider, tmp_path / "b", "multiple-choice"), base, r"is \(.*64")


def test_another_architecture(base: Base, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", "roberta")
    refuse(
        finetuned(other, tmp_path / "copy", "token-classification"), base, "architecture is roberta, not bert"
    )


def test_another_tokenizer(base: Base, copy: str) -> None:
    path = Path(copy) / "tokenizer.json"
    path.write_text(
        path.read_text()
        .replace('"lowercase":true', '"lowercase":false')
        .replace('"lowercase": true', '"lowercase": false')
    )
    refuse(copy, base, "tokenizer makes other tokens")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"architectures": ["BertModel"]}, "BertModel, which is no classifier"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM, which is no classifier"),
        ({"architectures": ["SomeForTokenClassification"]}, "transformers has no class 'Some"),
        ({"problem_type": "guessing"}, "guessing"),
        ({"id2label": {"0": "a", "1": "a", "2": "b"}}, "differently"),
        ({"hidden_act": "relu"}, "hidden_act in its config.json is 'relu'"),
        ({"id2label": {str(n): str(n) for n in range(4)}}, "lacks 2 tensor"),
    ],
)
def test_configurations(base: Base, copy: str, fields: dict[str, Any], reason: str) -> None:
    refuse(edit(copy, "config.json", **fields), base, reason)


def test_files(base: Base, copy: str, tmp_path: Path) -> None:
    refuse(str(tmp_path / "nowhere"), base, "no such folder")
    (Path(copy) / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refuse(copy, base, "LFS pointer")


def test_numbers(base: Base, copy: str) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(copy)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[0, 0] = torch.nan
    model.save_pretrained(copy)
    refuse(copy, base, "holds NaN")


def test_signs_that_do_not_fit_the_base(base: Base, copy: str) -> None:
    bundle = sign_bundle(base, copy)
    manifest, (member,) = bundle.manifest, bundle.members
    assert isinstance(manifest, SignManifest)
    fewer = manifest.model_copy(update={"own": manifest.own[1:]})
    own = {name: array for name, array in member.own.items() if name != manifest.own[0].name}
    odd = MaskBundle.create_signs(fewer, member.masks, scales=member.scales, own=own, head=member.head)
    with pytest.raises(UnknownLayerError, match=r"own tensor '.*bias' of task 'copied' is None"):
        load_task(odd, base)
