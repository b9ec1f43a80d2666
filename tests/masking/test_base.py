import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, GPT2Config
from transformers.utils import logging

from masking import Base, BaseLoadError, UnsupportedArchitectureError, choose_device, load_base
from masking.base import base_tensors
from tests.support.models import ARCHITECTURES, tiny_base


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_encoder_loads_frozen_in_fp32(architecture: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "some-encoder", architecture))
    assert base.info.name == "some-encoder"
    assert base.info.architecture == architecture
    assert base.hidden_size == 32
    assert base.num_blocks == 3
    assert base.max_positions == 64
    assert not base.encoder.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in base.encoder.parameters())
    assert (base.pooler is None) == (architecture in ("distilbert", "electra"))
    assert base.nbytes == base.info.parameters * 4


@pytest.mark.parametrize("bars", [True, False])
def test_settings_of_transformers_stay_as_they_were(tiny_bert: str, bars: bool) -> None:
    before, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        _show_bars(bars)
        load_base(tiny_bert)
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (before, bars)
    finally:
        _show_bars(shown)


def _show_bars(shown: bool) -> None:
    switch: Callable[[], None] = logging.enable_progress_bar if shown else logging.disable_progress_bar
    switch()


def test_half_precision_checkpoints_are_widened(tiny_bert: str, tmp_path: Path) -> None:
    AutoModel.from_pretrained(tiny_bert, dtype=torch.float16).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(tiny_bert) / name, tmp_path)
    assert {p.dtype for p in load_base(str(tmp_path)).encoder.parameters()} == {torch.float32}


def test_the_fingerprint_is_of_the_tensors_not_of_the_folder(tiny_bert: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "copy")
    one, copied = load_base(tiny_bert).info, load_base(str(tmp_path / "copy")).info
    other = load_base(tiny_base(tmp_path / "other", seed=1)).info
    assert one.fingerprint == copied.fingerprint != other.fingerprint


def test_a_pooler_missing_from_the_checkpoint_is_not_made_up(tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, "bert", pooler=False))
    assert base.pooler is None
    assert base.encoder.pooler is None


def test_a_checkpoint_that_lacks_encoder_tensors_is_refused(tiny_bert: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(BaseLoadError, match=r"lacks 1 tensors.*layer\.1\.output\.dense"):
        load_base(str(tmp_path / "broken"))


def test_a_truncated_checkpoint_is_refused(tiny_bert: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseLoadError, match="broken"):
        load_base(str(tmp_path / "broken"))


def test_an_empty_folder_is_refused_with_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(BaseLoadError, match=r"wanted: a folder with config\.json"):
        load_base(str(tmp_path))


def test_a_decoder_is_refused(tiny_bert: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "gpt")
    (tmp_path / "gpt" / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UnsupportedArchitectureError, match="gpt2"):
        load_base(str(tmp_path / "gpt"))


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
