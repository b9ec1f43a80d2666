import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, GPT2Config

from masking import (
    Base,
    BaseLoadError,
    MaskedEncoder,
    MaskSettings,
    TaskBatch,
    TaskSpec,
    UnsupportedArchitectureError,
    WordsInput,
    choose_device,
    load_base,
    load_task,
)
from masking.base import base_tensors
from tests.support.models import ARCHITECTURES, random_bundle, tiny_base


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_in_memory_makes_the_base_that_its_folder_makes(architecture: str, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "some-encoder", architecture)
    model = AutoModel.from_pretrained(folder, dtype=torch.float16).train()
    base = Base.from_model(model, AutoTokenizer.from_pretrained(folder), name="some-encoder")
    loaded = load_base(folder)
    assert base.info.architecture == architecture
    assert base.info.parameters == loaded.info.parameters
    assert (base.pooler is None) == (loaded.pooler is None)
    assert not base.encoder.training
    tensors = dict(base_tensors(base.encoder, base.pooler))
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in tensors.values())
    assert {n: t.half().tolist() for n, t in base_tensors(loaded.encoder, loaded.pooler)} == {
        n: t.half().tolist() for n, t in tensors.items()
    }


def test_from_model_keeps_name_and_revision_and_hashes_the_tensors(tiny_bert: str) -> None:
    model, tokenizer = AutoModel.from_pretrained(tiny_bert), AutoTokenizer.from_pretrained(tiny_bert)
    base = Base.from_model(model, tokenizer, name="mine", revision="v1")
    assert (base.info.name, base.info.revision) == ("mine", "v1")
    assert base.info.fingerprint == load_base(tiny_bert).info.fingerprint
    assert Base.from_model(model, tokenizer, name="again").pooler is None


def test_a_model_with_a_head_or_without_a_fast_tokenizer_makes_no_base(tiny_bert: str) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    with pytest.raises(BaseLoadError, match="has a head; pass its `base_model`"):
        Base.from_model(model, tokenizer, name="classifier")
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(BaseLoadError, match="fast tokenizer"):
        Base.from_model(model.base_model, slow, name="slow")  # type: ignore[arg-type]
    with torch.device("meta"):
        decoder = AutoModel.from_config(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10))
    with pytest.raises(UnsupportedArchitectureError, match="gpt2"):
        Base.from_model(decoder, tokenizer, name="decoder")


def test_a_shared_encoder_has_its_own_modules_over_the_same_tensors(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    shared = base.share_encoder()
    assert shared is not base.encoder
    ours, theirs = dict(base.encoder.named_parameters()), dict(shared.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)


def test_a_device_is_chosen_by_its_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="cuda:99: this machine has no such device; use cpu or auto"):
        choose_device("cuda:99")


def test_a_row_may_begin_with_bos_and_end_with_nothing(tmp_path: Path) -> None:
    folder = Path(tiny_base(tmp_path, "eurobert"))
    parts = json.loads((folder / "tokenizer.json").read_text())
    begin, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    parts["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [begin, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    base = load_base(str(folder))
    assert (base.tokenizer.cls_token, base.tokenizer.sep_token) == ("<s>", None)
    words = TaskSpec("token-classification", ("O", "B-PER"), max_length=16)
    task = load_task(random_bundle(base, words, settings=MaskSettings(blocks="0-")), base)
    (features,) = task.codec.encode([WordsInput(("anna", "works"))], truncate=False)
    (row,) = features.rows
    assert (row.input_ids[0], len(row.input_ids), features.positions) == (0, 3, ((0, 1), (0, 2)))
    (logits,) = MaskedEncoder(base).logits([TaskBatch(task, [features])])[0]
    assert logits.shape == (2, 2)
