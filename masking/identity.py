"""Identity of a base: digests of all that decides its answers, its weights, tokenizer and configuration.

A digest is taken of what a library has loaded, in a normal form: how a file is laid out, which release of the
library wrote it, and what has no effect on an answer (names, truncation and padding, dropout) make no
difference. Digests are "sha256:" and 64 hexadecimal digits.
"""

import hashlib
import json
from typing import Any

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from masking.architectures import computed_settings

_PROBE = ("a", "b")  # a text and its pair, to see which special tokens and segments are put around them
_WITHOUT_EFFECT = ("decoder", "padding", "post_processor", "truncation", "version")


def weights_digest(tensors: list[tuple[str, Tensor]]) -> str:
    """Hash base tensors: names, shapes and every byte (none on the meta device), in the order given."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        if not tensor.is_meta:
            digest.update(tensor.detach().cpu().contiguous().numpy().data.cast("B"))
    return f"sha256:{digest.hexdigest()}"


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash what a fast tokenizer makes of texts.

    That is: normalizer, pre-tokenizer, model with its vocabulary, added tokens, the special tokens and
    segments around a text and a pair (however a post-processor is written down), which side is cut, and
    whether segments are given to the encoder.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in _WITHOUT_EFFECT:
        parts.pop(name, None)
    parts["added_tokens"] = sorted(parts.get("added_tokens") or [], key=lambda token: int(token["id"]))
    parts["model"] = _model(parts["model"])
    return _digest(
        {
            **_without_nulls(parts),
            "around": [_encoded(tokenizer, *_PROBE[:count]) for count in (1, 2)],
            "special": [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id],
            "special_in_text": not tokenizer.backend_tokenizer.encode_special_tokens,
            "segments": "token_type_ids" in tokenizer.model_input_names,
            "cut": tokenizer.truncation_side,
        }
    )


def configuration_digest(config: PretrainedConfig) -> str:
    """Hash the settings that change what an encoder computes from the same weights and tokens.

    Shapes are not among them, as the weights have them.
    """
    return _digest({"architecture": config.model_type} | dict(computed_settings(config)))


def _model(model: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's model with merges as pairs, and without what is off or not set."""
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", [])]
    kept = {name: value for name, value in model.items() if value is not None and value is not False}
    return kept | ({"merges": merges} if merges else {})


def _encoded(tokenizer: PreTrainedTokenizerBase, *texts: str) -> list[list[int]]:
    encoded = tokenizer(*texts, padding=False, truncation=False, return_token_type_ids=True)
    return [list(encoded["input_ids"]), list(encoded["token_type_ids"])]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
