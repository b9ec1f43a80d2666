import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken, AutoConfig, AutoModel, AutoTokenizer

from masking import Base, Tokenizer
from masking.identity import configuration_digest, tokenizer_digest
from tests.support.models import tiny_base


def with_json(folder: str, place: Path, change: Callable[[dict[str, Any]], Any]) -> Tokenizer:
    """The tokenizer of a folder after a change to its tokenizer.json."""
    parts = json.loads((Path(folder) / "tokenizer.json").read_text())
    change(parts)
    (place / "tokenizer.json").write_text(json.dumps(parts))
    (place / "tokenizer_config.json").write_text((Path(folder) / "tokenizer_config.json").read_text())
    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(place)
    return tokenizer


def swapped(parts: dict[str, Any]) -> None:
    words = parts["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "lower case": lambda parts: parts["normalizer"].update(lowercase=False),
    "accents": lambda parts: parts["normalizer"].update(strip_accents=False),
    "no normalizer": lambda parts: parts.update(normalizer=None),
    "pre-tokenizer": lambda parts: parts.update(pre_tokenizer={"type": "WhitespaceSplit"}),
    "two words swapped": swapped,
    "longest word": lambda parts: parts["model"].update(max_input_chars_per_word=9),
    "special tokens swapped": lambda parts: parts["post_processor"].update(
        sep=["[SEP]", 2], cls=["[CLS]", 3]
    ),
    "token added": lambda parts: parts["added_tokens"].append(
        {"id": 5, "content": "the", "special": False, "normalized": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_tokens_changes_the_digest(name: str, tiny_bert: str, tmp_path: Path) -> None:
    before = tokenizer_digest(AutoTokenizer.from_pretrained(tiny_bert))
    assert tokenizer_digest(with_json(tiny_bert, tmp_path, CHANGES[name])) != before


def test_the_way_special_tokens_are_written_down_does_not_count(tiny_bert: str, tmp_path: Path) -> None:
    def as_template(parts: dict[str, Any]) -> None:
        first = [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ]
        second = [
            {"Sequence": {"id": "B", "type_id": 1}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
        ]
        named = {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in (("[CLS]", 2), ("[SEP]", 3))
        }
        parts["post_processor"] = {
            "type": "TemplateProcessing",
            "single": first,
            "pair": first + second,
            "special_tokens": named,
        }

    before = tokenizer_digest(AutoTokenizer.from_pretrained(tiny_bert))
    assert tokenizer_digest(with_json(tiny_bert, tmp_path, as_template)) == before


def test_merges_are_the_same_as_pairs_and_as_texts(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "roberta", "roberta")
    merges = {"pairs": [["a", "b"]], "texts": ["a b"], "others": [["a", "c"]]}
    digests = {}
    for name, written in merges.items():
        (tmp_path / name).mkdir()

        def change(parts: dict[str, Any], written: Any = written) -> None:
            parts["model"]["vocab"] |= {"ab": 261, "ac": 262}
            parts["model"]["merges"] = written

        digests[name] = tokenizer_digest(with_json(folder, tmp_path / name, change))
    assert digests["pairs"] == digests["texts"] != digests["others"]


def test_calls_leave_no_trace_in_the_digest(tiny_bert: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    before = tokenizer_digest(tokenizer)
    tokenizer(["a", "the movie"], truncation=True, max_length=3, padding=True)
    assert tokenizer_digest(tokenizer) == before
    tokenizer.add_tokens([AddedToken("<user>")])
    assert tokenizer_digest(tokenizer) != before


@pytest.mark.parametrize(
    ("architecture", "setting", "value"),
    [
        ("bert", "hidden_act", "relu"),
        ("bert", "layer_norm_eps", 1e-5),
        ("bert", "num_attention_heads", 4),
        ("electra", "layer_norm_eps", 1e-5),
        ("roberta", "pad_token_id", 0),
        ("xlm-roberta", "hidden_act", "gelu_new"),
        ("mpnet", "layer_norm_eps", 1e-12),
        ("distilbert", "activation", "relu"),
        ("distilbert", "n_heads", 4),
        ("albert", "num_hidden_layers", 4),
        ("deberta-v2", "pos_att_type", ["c2p"]),
        ("modernbert", "local_attention", 64),
        ("eurobert", "rope_parameters", {"rope_type": "default", "rope_theta": 10.0}),
        ("roformer", "rotary_value", True),
    ],
)
def test_what_is_computed_changes_the_digest(architecture: str, setting: str, value: Any) -> None:
    config, changed = AutoConfig.for_model(architecture), AutoConfig.for_model(architecture)
    setattr(changed, setting, value)
    if getattr(config, setting) == value:
        setattr(config, setting, 1e-5)
    assert configuration_digest(config) != configuration_digest(changed)


def test_what_is_not_computed_does_not() -> None:
    config, changed = AutoConfig.for_model("bert"), AutoConfig.for_model("bert")
    changed.hidden_dropout_prob, changed.use_cache, changed.name_or_path = 0.3, False, "elsewhere"
    assert configuration_digest(config) == configuration_digest(changed)


def test_a_base_knows_all_parts_of_itself(tiny_bert: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    base = Base.from_model(AutoModel.from_pretrained(tiny_bert), tokenizer, name="mine")
    assert list(base.info.identity) == ["weights", "tokenizer", "configuration"]
    assert base.info.tokenizer == tokenizer_digest(tokenizer)
    assert base.info.configuration == configuration_digest(base.encoder.config)
