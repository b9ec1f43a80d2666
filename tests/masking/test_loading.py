import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertForPreTraining, DistilBertForMaskedLM, RobertaForMaskedLM
from transformers.utils import logging

from masking import BaseLoadError, MaskingError, UnsupportedArchitectureError, load_base
from tests.support.models import ARCHITECTURES, tiny_base

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n"
Edit = Callable[[Path], Any]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny encoder of every architecture."""
    place = tmp_path_factory.mktemp("encoders")
    return {name: tiny_base(place / name, name) for name in ARCHITECTURES}


@pytest.fixture
def edited(folders: dict[str, str], tmp_path: Path) -> Callable[[str, Edit], str]:
    """Makes a copy of an encoder with changed files."""

    def make(architecture: str, edit: Edit) -> str:
        edit(Path(shutil.copytree(folders[architecture], tmp_path / "encoder")))
        return str(tmp_path / "encoder")

    return make


def holds(name: str, content: bytes) -> Edit:
    return lambda folder: (folder / name).write_bytes(content)


def lacks(*names: str) -> Edit:
    def edit(folder: Path) -> None:
        for name in names or [path.name for path in folder.iterdir()]:
            (folder / name).unlink()

    return edit


def sets(name: str, **fields: Any) -> Edit:
    """Fields of a JSON file; those that are `...` are taken out."""

    def edit(folder: Path) -> None:
        old = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({k: v for k, v in (old | fields).items() if v is not ...}))

    return edit


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Edit:
    def edit(folder: Path) -> None:
        values = load_file(folder / "model.safetensors")
        change(values)
        save_file(values, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


def both(*edits: Edit) -> Edit:
    return lambda folder: [edit(folder) for edit in edits]


def vocabulary(folder: Path, name: str = "vocab.txt") -> None:
    """Words in a file of their own, as older releases write them."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / name).write_text("\n".join(sorted(model["vocab"], key=model["vocab"].get)) + "\n")
    (folder / "tokenizer.json").unlink()


TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
SPECIALS = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
LORA = "transformer.layer.0.attention.q_lin.lora_A.weight"
DISTANCES = "encoder.layer.1.attention.self.distance_embedding.weight"
INDEX = json.dumps({"weight_map": {"embeddings": "model-1.safetensors"}}).encode()

REFUSED: dict[str, tuple[str, Edit, str]] = {
    # what the folder holds
    "nothing": ("bert", lacks(), "no config.json in the"),
    "no weights": ("bert", lacks("model.safetensors"), r"no model\.safetensors \(or pytorch_model\.bin\)"),
    **{
        f"no tokenizer, {name}": (name, lacks(*TOKENIZER), r"no tokenizer\.json \(or vocab\.txt\)")
        for name in ARCHITECTURES
    },
    "shard missing": (
        "bert",
        both(lacks("model.safetensors"), holds("model.safetensors.index.json", INDEX)),
        r"model-1\.safetensors, which model\.safetensors\.index\.json names, is not in the folder",
    ),
    "adapter": ("bert", holds("adapter_config.json", b"{}"), "holds an adapter .* merge it"),
    # Git LFS
    **{
        f"pointer {name}": ("bert", holds(name, POINTER), rf"{name} is a Git LFS pointer.*git lfs pull")
        for name in ("config.json", "model.safetensors", *TOKENIZER)
    },
    "pointer pytorch_model.bin": (
        "bert",
        both(lacks("model.safetensors"), holds("pytorch_model.bin", POINTER)),
        r"pytorch_model\.bin is a Git LFS pointer",
    ),
    "pointer vocab.txt": (
        "bert",
        both(lacks("tokenizer.json"), holds("vocab.txt", POINTER)),
        r"vocab\.txt is a Git LFS pointer",
    ),
    "pointer of a shard": (
        "bert",
        both(
            lacks("model.safetensors"),
            holds("model.safetensors.index.json", INDEX),
            holds("model-1.safetensors", POINTER),
        ),
        r"model-1\.safetensors is a Git LFS pointer",
    ),
    # damage
    "config.json cut": ("bert", holds("config.json", b'{"model_type"'), r"config\.json is damaged, not JSON"),
    "config.json a list": ("bert", holds("config.json", b"[]"), r"config\.json must hold a JSON object"),
    "tokenizer.json cut": ("bert", holds("tokenizer.json", b"{"), r"tokenizer\.json is damaged, not JSON"),
    "tokenizer.json bare": (
        "bert",
        holds("tokenizer.json", b"{}"),
        "its tokenizer .* KeyError",
    ),
    "safetensors no header": (
        "bert",
        holds("model.safetensors", b"1" * 99),
        r"model\.safetensors is damaged",
    ),
    "pickle of code": (
        "bert",
        both(lacks("model.safetensors"), holds("pytorch_model.bin", pickle.dumps(print))),
        "no checkpoint of PyTorch",
    ),
    "pytorch_model.bin empty": (
        "bert",
        both(lacks("model.safetensors"), holds("pytorch_model.bin", b"")),
        r"pytorch_model\.bin is empty",
    ),
    # configuration
    "no model type": ("bert", sets("config.json", model_type=...), "has no model_type"),
    "positions": (
        "electra",
        sets("config.json", position_embedding_type="relative_key"),
        "position_embedding_type 'relative_key' .* is not supported, only 'absolute'",
    ),
    "decoder": ("roberta", sets("config.json", is_decoder=True), "makes it a decoder"),
    "own model": ("bert", sets("config.json", auto_map={"AutoModel": "m.M"}), "code of its own.*config.json"),
    "own tokenizer": (
        "bert",
        sets("tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}),
        r"code of its own.*tokenizer_config\.json",
    ),
    "activation": ("bert", sets("config.json", hidden_act="gelo"), "hidden_act 'gelo' .* is no activation"),
    "heads": (
        "bert",
        sets("config.json", num_attention_heads=5),
        "not a multiple of the number",
    ),
    "type": ("bert", sets("config.json", hidden_size="32"), "'hidden_size' expected int, got str"),
    **{
        f"no padding, {name}": (
            name,
            sets("config.json", pad_token_id=None),
            "config.json has no pad_token_id",
        )
        for name in ("roberta", "xlm-roberta")
    },
    # weights
    "width": (
        "bert",
        sets("config.json", vocab_size=100),
        r"not those that config\.json describes: embeddings\.word_embeddings\.weight is 121x32, not 100x32",
    ),
    "too few blocks": (
        "bert",
        sets("config.json", num_hidden_layers=5),
        r"lacks 32 tensor\(s\) of",
    ),
    "too many blocks": (
        "mpnet",
        sets("config.json", num_hidden_layers=2),
        r"16 tensor\(s\) inside the encoder .* does not use: encoder\.layer\.2\.",
    ),
    "adapters": ("distilbert", tensors(lambda t: t.update({LORA: torch.zeros(2, 32)})), f"not use: {LORA}"),
    "relative positions": (
        "bert",
        tensors(lambda t: t.update({DISTANCES: torch.zeros(127, 16)})),
        f"not use: {DISTANCES}",
    ),
    "other names": (
        "bert",
        tensors(lambda t: [t.update({f"module.{name}": t.pop(name)}) for name in list(t)]),
        r"lacks 53 tensor\(s\) .*; it has module\.embeddings",
    ),
    "half a pooler": (
        "bert",
        tensors(lambda t: t.pop("pooler.dense.bias")),
        r"lacks 1 .*dense\.bias",
    ),
    "not a number": (
        "bert",
        tensors(lambda t: t["encoder.layer.0.output.dense.bias"].fill_(float("nan"))),
        r"encoder\.layer\.0\.output\.dense\.bias holds NaN",
    ),
    # tokenizer
    "no words": ("bert", both(lacks(*TOKENIZER), holds("vocab.txt", SPECIALS)), "tokenizer knows no word"),
    "vocab.txt empty": ("bert", both(lacks(*TOKENIZER), holds("vocab.txt", b"")), r"vocab\.txt is empty"),
    "one token too many": (
        "bert",
        sets("tokenizer_config.json", additional_special_tokens=["<user>"], extra_special_tokens=["<user>"]),
        "122 tokens and its embedding 121 rows, for ids up to 120: '<user>' is 121",
    ),
    "no cls, no sep": (
        "bert",
        sets("tokenizer_config.json", cls_token=..., sep_token=...),
        r"no cls_token and no sep_token.*tokenizer_config\.json",
    ),
    "sep alone missing": ("roberta", sets("tokenizer_config.json", sep_token=...), "has no sep_token, with"),
    "no post-processor": ("bert", sets("tokenizer.json", post_processor=None), r"put \[CLS\] before a text"),
    "sentencepiece alone": (
        "xlm-roberta",
        both(lacks(*TOKENIZER), holds("sentencepiece.bpe.model", b"model")),
        r"sentencepiece\.bpe\.model alone.*tokenizer\.json",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_with_a_folder_is_one_line(name: str, edited: Callable[[str, Edit], str]) -> None:
    architecture, edit, message = REFUSED[name]
    with pytest.raises(BaseLoadError, match=message) as caught:
        load_base(edited(architecture, edit))
    assert "\n" not in str(caught.value)
    assert "encoder'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/encoder", "there is no such folder; wanted: a folder with"),
        ("encoders/mine/bert", "there is no such folder; wanted: a folder with"),
        (
            "no-such-encoder",
            "there is no such folder; on the Hugging Face hub its config",
        ),
        ("a\0b", "can't be loaded"),
        ("x" * 300, "can't be loaded"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BaseLoadError, match=message):
        load_base(name)


def test_a_file_is_no_base(folders: dict[str, str]) -> None:
    with pytest.raises(BaseLoadError, match="that is a file; wanted: a folder"):
        load_base(f"{folders['bert']}/model.safetensors")


@pytest.mark.parametrize("architecture", ["gpt2", "t5", "of-its-own"])
def test_other_architectures_are_refused(architecture: str, edited: Callable[[str, Edit], str]) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=architecture):
        load_base(edited("bert", sets("config.json", model_type=architecture)))


def test_a_device_without_room_is_one_line(folders: dict[str, str]) -> None:
    with pytest.raises(MaskingError, match="on nowhere its encoder can't be loaded"):
        load_base(folders["bert"], device="nowhere")


ACCEPTED: dict[str, tuple[str, Edit]] = {
    "a pointer that nothing reads": ("bert", holds("pytorch_model.bin", POINTER)),
    "no padding id": ("bert", sets("config.json", pad_token_id=None)),
    "tuples for output": ("bert", sets("config.json", return_dict=False)),
    "buffers of old releases": (
        "bert",
        tensors(lambda t: t.update({"embeddings.position_ids": torch.arange(64)[None]})),
    ),
    "words in vocab.txt": ("bert", both(vocabulary, sets("tokenizer_config.json", tokenizer_class=...))),
    "code that transformers has, too": (
        "bert",
        sets("config.json", auto_map={"AutoModel": "google-bert/bert--modeling_bert.BertModel"}),
    ),
    "a tokenizer that gives segments": (
        "distilbert",
        sets("tokenizer_config.json", model_input_names=["input_ids", "token_type_ids", "attention_mask"]),
    ),
    "another layout of JSON": (
        "bert",
        lambda folder: [
            (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()), indent=3))
            for name in ("config.json", *TOKENIZER)
        ],
    ),
    "truncation and padding": (
        "bert",
        sets(
            "tokenizer.json",
            truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        ),
    ),
    "names, types and dropout": (
        "bert",
        sets("config.json", _name_or_path="x", transformers_version="4.1", hidden_dropout_prob=0.3),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_changes_no_answer_changes_no_identity(
    name: str, folders: dict[str, str], edited: Callable[[str, Edit], str]
) -> None:
    architecture, edit = ACCEPTED[name]
    base = load_base(edited(architecture, edit))
    assert base.info.identity == load_base(folders[architecture]).info.identity
    assert base.encoder(torch.tensor([[2, 5, 3]])).last_hidden_state.shape == (1, 3, 32)


@pytest.mark.parametrize("head", [BertForPreTraining, RobertaForMaskedLM, DistilBertForMaskedLM])
def test_heads_of_a_checkpoint_are_left_out(head: Any, folders: dict[str, str], tmp_path: Path) -> None:
    folder = folders[head.config_class.model_type]
    head.from_pretrained(folder).save_pretrained(tmp_path)
    for name in TOKENIZER:
        shutil.copy(Path(folder) / name, tmp_path)
    assert load_base(str(tmp_path)).num_blocks == 3


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
    with pytest.raises(BaseLoadError, match=r"lacks 1 tensor.*layer\.1\.output\.dense"):
        load_base(str(tmp_path / "broken"))


def test_a_truncated_checkpoint_is_refused(tiny_bert: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseLoadError, match="broken"):
        load_base(str(tmp_path / "broken"))


def test_a_revision_of_a_folder_is_refused(folders: dict[str, str]) -> None:
    with pytest.raises(BaseLoadError, match=r"a folder has no revisions, found 'main'; leave --revision out"):
        load_base(folders["bert"], revision="main")
