"""Checks of a base: is its encoder computed as it was saved, and does its tokenizer go with it.

What is wrong is found when a base is loaded, and said in one sentence with what would be right. Every check
raises `BaseLoadError`, or `UnsupportedArchitectureError`; `naming` adds the name of the base.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.activations import ACT2FN

from masking.architectures import check_encoder_config, own_class
from masking.base_folder import check_own_code
from masking.errors import BaseLoadError, UnsupportedArchitectureError, first_line

_TEXTS = ("a", "a \u2603")  # a pair of texts; few vocabularies have the last character
_SHOWN = 3
_BUFFERS = ("position_ids", "token_type_ids")  # of old checkpoints; they hold 0, 1, 2, ... and zeros


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say in what a check raises which base it is about."""
    try:
        yield
    except (BaseLoadError, UnsupportedArchitectureError) as error:
        raise type(error)(f"base {name!r}: {error}") from error


def check_config(config: PretrainedConfig) -> None:
    """Refuse a configuration that asks for what would not be computed.

    Raises:
        BaseLoadError: With the reason.
        UnsupportedArchitectureError: It is of no encoder.
    """
    check_encoder_config(config)
    positions = getattr(config, "position_embedding_type", None)
    if positions not in (None, "absolute", getattr(type(config)(), "position_embedding_type", None)):
        raise BaseLoadError(
            f"position_embedding_type {positions!r} in config.json is not supported, only 'absolute'"
        )
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise BaseLoadError("config.json makes it a decoder (is_decoder, add_cross_attention)")
    for name in ("hidden_act", "activation"):
        value = getattr(config, name, None)
        if isinstance(value, str) and value not in ACT2FN:
            raise BaseLoadError(f"{name} {value!r} in config.json is no activation that transformers knows")
    if own := own_class(config):
        raise BaseLoadError(f"it needs code of its own, which is never run (auto_map, {own} in config.json)")


def check_checkpoint(
    encoder: PreTrainedModel, missing: set[str], unexpected: set[str], mismatched: Iterable[Sequence[Any]]
) -> None:
    """Refuse a checkpoint whose tensors are not those of the encoder; heads may be among them.

    Args:
        encoder: The encoder as transformers made it.
        missing: Names of the encoder's tensors that the checkpoint lacks.
        unexpected: Names of the checkpoint's tensors that the encoder did not take.
        mismatched: Name, shape in the checkpoint and shape by the configuration, where these differ.
    """
    wrong = [f"{name} is {_shape(found)}, not {_shape(wanted)}" for name, found, wanted in mismatched]
    if wrong:
        raise BaseLoadError(f"its weights are not those that config.json describes: {_some(wrong)}")
    if missing:
        instead = f"; it has {_some(sorted(unexpected))}" if unexpected else ""
        raise BaseLoadError(
            f"its checkpoint lacks {len(missing)} tensor(s) of the encoder: {_some(sorted(missing))}{instead}"
        )
    if unused := sorted(name for name in unexpected if _is_inside(name, encoder)):
        raise BaseLoadError(
            f"its checkpoint has {len(unused)} tensor(s) inside the encoder that a "
            f"{encoder.config.model_type} with this config.json does not use: {_some(unused)}; merge "
            "adapters, and leave out blocks that are not to be used, before it is saved"
        )


def check_encoder(encoder: PreTrainedModel, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse an encoder that can't be computed."""
    embeddings = getattr(encoder, "embeddings", None)
    if getattr(embeddings, "padding_idx", 0) is None:
        raise BaseLoadError("config.json has no pad_token_id, after which positions are counted")
    for name, tensor in tensors:
        if not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            raise BaseLoadError(f"its tensor {name} holds NaN or infinity")


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> None:
    """Refuse a tokenizer that does not go with the encoder."""
    if not tokenizer.is_fast:
        raise BaseLoadError("it has no fast tokenizer (tokenizer.json)")
    check_own_code(tokenizer.init_kwargs.get("auto_map"), "AutoTokenizer", "tokenizer_config.json")
    _check_vocabulary(tokenizer, encoder)
    tokens = {"cls_token": tokenizer.cls_token_id}
    if tokenizer.num_special_tokens_to_add(pair=False) != 1:  # with one, nothing ends a row
        tokens["sep_token"] = tokenizer.sep_token_id
    if absent := [name for name, number in tokens.items() if number is None]:
        raise BaseLoadError(
            f"its tokenizer has no {' and no '.join(absent)}, with which every input begins and ends: "
            "name them in tokenizer_config.json"
        )
    _check_encoding(tokenizer, encoder)


def fit_tokenizer(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> None:
    """Set what a tokenizer leaves open: no segments where the encoder takes none, and names of its ends.

    Some tokenizers begin a row with bos_token and end it with eos_token or nothing; these then are cls_token
    and sep_token, as everywhere else.
    """
    if not segment_rows(encoder):
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
    if not tokenizer.is_fast or (tokenizer.cls_token_id, tokenizer.sep_token_id) != (None, None):
        return
    ids = tokenizer(_TEXTS[0], padding=False, truncation=False)["input_ids"]
    if ids and ids[0] == tokenizer.bos_token_id:
        tokenizer.cls_token = tokenizer.bos_token
        if ids[-1] == tokenizer.eos_token_id:
            tokenizer.sep_token = tokenizer.eos_token


def segment_rows(encoder: PreTrainedModel) -> int:
    """Return how many segment ids (token_type_ids) an encoder has embeddings for; 0 where it takes none."""
    embedding = getattr(getattr(encoder, "embeddings", None), "token_type_embeddings", None)
    return embedding.num_embeddings if isinstance(embedding, nn.Embedding) else 0


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> None:
    vocabulary = tokenizer.get_vocab()
    if vocabulary.keys() <= {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}:
        raise BaseLoadError(
            "its tokenizer knows no word, as where tokenizer.json (or vocab.txt) is missing or empty: save "
            "the tokenizer beside the model (save_pretrained)"
        )
    rows = len(encoder.get_input_embeddings().weight)  # type: ignore[arg-type]
    beyond = [(number, token) for token, number in vocabulary.items() if number >= rows]
    if beyond:
        tokens = [f"{token!r} is {number}" for number, token in sorted(beyond)]
        raise BaseLoadError(
            f"its tokenizer has {len(vocabulary)} tokens and its embedding {rows} rows, for ids up to "
            f"{rows - 1}: {_some(tokens)}; take the tokenizer that belongs to it, or resize the embedding "
            "(resize_token_embeddings) before it is saved"
        )


def _check_encoding(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> None:
    """Try the tokenizer on a pair of texts."""
    try:
        encoded = tokenizer(*_TEXTS, padding=False, truncation=False, return_token_type_ids=True)
    except Exception as error:  # the tokenizers library raises nothing more exact
        raise BaseLoadError(f"its tokenizer can't tokenise {_TEXTS}: {first_line(error)}") from error
    ids, segments = encoded["input_ids"], encoded["token_type_ids"]
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    if ids[0] != begin or end not in (ids[-1], None):
        after = "" if end is None else f" and {tokenizer.sep_token} after it"
        raise BaseLoadError(
            f"its tokenizer does not put {tokenizer.cls_token} before a text{after}, as the "
            "post_processor in tokenizer.json should"
        )
    rows = segment_rows(encoder)
    if "token_type_ids" in tokenizer.model_input_names and rows and max(segments) >= rows:
        raise BaseLoadError(
            f"its tokenizer numbers the texts of a pair up to {max(segments)} (token_type_ids) and its "
            f"encoder has {rows} rows for them: take the tokenizer that belongs to it, or leave "
            "token_type_ids out of model_input_names in tokenizer_config.json"
        )


def _is_inside(name: str, encoder: PreTrainedModel) -> bool:
    """Tell whether a checkpoint's tensor belongs to the encoder and not to a head on top of it."""
    parts = {child for child, _ in encoder.named_children()}
    own = name.startswith(f"{encoder.base_model_prefix}.") or name.partition(".")[0] in parts
    return own and not name.endswith(_BUFFERS)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
