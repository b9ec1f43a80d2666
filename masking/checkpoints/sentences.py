"""Sentence encoders: the files in which sentence-transformers says how a text becomes an embedding.

Known is what an embedding task does: an encoder, then the mean of a text's tokens or [CLS], then length 1.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from transformers.utils.hub import cached_file

from mask_store import Pooling
from masking.errors import CopyError
from masking.loading import reading

_MODULES = "modules.json"
_SETTINGS = "sentence_bert_config.json"
_PROMPTS = "config_sentence_transformers.json"
_POOLING = "1_Pooling"
_KNOWN = ("Transformer", "Pooling", "Normalize")
Document = TypeVar("Document", list[Any], dict[str, Any])
_FLAGS: Mapping[Pooling, str] = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


@dataclass(frozen=True)
class SentenceEncoder:
    """What becomes of an encoder's hidden states.

    Attributes:
        pooling: The mean of a text's tokens, or [CLS].
        max_length: Longest input in tokens; None where the files don't say.
    """

    pooling: Pooling
    max_length: int | None


def read_sentence_encoder(name_or_path: str, revision: str | None = None) -> SentenceEncoder | None:
    """Read the files of sentence-transformers beside an encoder.

    Args:
        name_or_path: Hub id or folder.
        revision: Branch, tag or commit on the hub.

    Returns:
        What they say; None where there are none.

    Raises:
        CopyError: They ask for what an embedding task can't do.
        BaseLoadError: They can't be read.
    """
    modules = _read(name_or_path, _MODULES, revision, list)
    if modules is None:
        return None
    if not all(isinstance(one, dict) and {"type", "path"} <= one.keys() for one in modules):
        raise CopyError(f"{_MODULES} must be a list of objects with type and path")
    places = {str(one["type"]).rpartition(".")[2]: str(one["path"]) for one in modules}
    if tuple(places) not in (_KNOWN, _KNOWN[:2]):
        raise CopyError(f"{_MODULES} lists {', '.join(places)}; wanted: {', '.join(_KNOWN)}")
    if folder := places["Transformer"]:
        raise CopyError(f"{_MODULES} says that its encoder is in the folder {folder!r}: name that one")
    settings = _read(name_or_path, _SETTINGS, revision, dict) or {}
    prompts = _read(name_or_path, _PROMPTS, revision, dict) or {}
    if settings.get("do_lower_case"):
        raise CopyError(f"do_lower_case in {_SETTINGS} is not known, only a tokenizer's own lower case is")
    if prompts.get("default_prompt_name"):
        raise CopyError(
            f"default_prompt_name in {_PROMPTS} is not known: set it to null, and put prompts before texts"
        )
    pooling = _read(name_or_path, f"{places['Pooling']}/config.json", revision, dict) or {}
    return SentenceEncoder(_pooling(pooling), settings.get("max_seq_length"))


def write_sentence_encoder(folder: Path, pooling: Pooling, *, max_length: int, width: int) -> None:
    """Write the files that make an encoder's folder one of sentence-transformers, of any release.

    Args:
        folder: Folder of the encoder.
        pooling: The mean of a text's tokens, or [CLS].
        max_length: Longest input in tokens.
        width: Numbers of an embedding.
    """
    paths = ("", _POOLING, "2_Normalize")
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(zip(_KNOWN, paths, strict=True))
    ]
    flags = {flag: name == pooling for name, flag in _FLAGS.items()}
    files: dict[str, Any] = {
        _MODULES: modules,
        _SETTINGS: {"max_seq_length": max_length, "do_lower_case": False},
        _PROMPTS: {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
        f"{_POOLING}/config.json": {"word_embedding_dimension": width, **flags},
    }
    for path in paths[1:]:
        (folder / path).mkdir(exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _pooling(settings: Mapping[str, Any]) -> Pooling:
    """Read the pooling as any release of sentence-transformers writes it."""
    mode = settings.get("pooling_mode")
    flags = [name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True]
    for pooling, flag in _FLAGS.items():
        if mode == pooling or flags == [flag]:
            return pooling
    told = mode or ", ".join(flags) or "none"
    raise CopyError(f"its pooling is {told}, and only {' or '.join(_FLAGS)} is known")


def _read(name_or_path: str, file: str, revision: str | None, kind: type[Document]) -> Document | None:
    """Return the contents of a JSON file, which must be of a kind; None where there is no such file."""
    with reading(f"its {file}"):
        path = cached_file(
            name_or_path,
            file,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        found = None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    if path is not None and not isinstance(found, kind):
        raise CopyError(f"{file} must be a JSON {'object' if kind is dict else 'array'}")
    return found
