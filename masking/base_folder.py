"""Base folder: a look at the files of a local base before a library reads them, which would say less.

Found are missing files, Git LFS pointers in place of files, damaged JSON and safetensors, adapters, and a
tokenizer that needs code of its own. torch is not imported, so that commands can look before they load it.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from masking.errors import BaseLoadError

_WANTED = "wanted: a folder with config.json, model.safetensors and tokenizer.json"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt")


def check_folder(name_or_path: str, *, tokenizer: bool = True) -> None:
    """Refuse a local base whose files can't be what they should be; a base on the hub has none yet.

    Args:
        name_or_path: The base.
        tokenizer: Whether it has to have a tokenizer.

    Raises:
        BaseLoadError: Something is wrong with a file.
        OSError: A file can't be read.
    """
    folder = Path(name_or_path)
    if folder.is_file():
        raise BaseLoadError(f"that is a file; {_WANTED}")
    if folder.is_dir():
        if (folder / "adapter_config.json").is_file():
            raise BaseLoadError("the folder holds an adapter (adapter_config.json): merge it into its base")
        if not (folder / "config.json").is_file():
            raise BaseLoadError(f"there is no config.json in the folder; {_WANTED}")
        _check_file(folder / "config.json")
        _check_weights(folder)
        if tokenizer or has_tokenizer(name_or_path):
            _check_tokenizer(folder)
    elif name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1:
        raise BaseLoadError(f"there is no such folder; {_WANTED}")


def has_tokenizer(name_or_path: str) -> bool:
    """Tell whether a local model has files of a tokenizer; one on the hub may have."""
    folder = Path(name_or_path)
    return not folder.is_dir() or bool(_tokenizer_files(folder))


def check_own_code(auto_map: object, name: str, file: str) -> None:
    """Refuse a base that needs code of its own."""
    if isinstance(auto_map, dict) and name in auto_map:
        raise BaseLoadError(f"it needs code of its own, which is never run (auto_map, {name} in {file})")


def sentencepiece_alone(name_or_path: str) -> str | None:
    """Return the name of a sentencepiece model that is all of a local base's tokenizer."""
    folder = Path(name_or_path)
    found = _tokenizer_files(folder) if folder.is_dir() else []
    return found[0].name if found and found[0].suffix == ".model" else None


def _check_weights(folder: Path) -> None:
    used = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if used is None:
        raise BaseLoadError(f"there is no model.safetensors (or pytorch_model.bin) in the folder; {_WANTED}")
    _check_file(used)
    if used.suffix != ".json":
        return
    shards = _read_json(used).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise BaseLoadError(f"{used.name} names no files of weights (weight_map)")
    for name in sorted(set(map(str, shards.values()))):
        if not (folder / name).is_file():
            raise BaseLoadError(f"{name}, which {used.name} names, is not in the folder")
        _check_file(folder / name)


def _check_tokenizer(folder: Path) -> None:
    found = _tokenizer_files(folder)
    if not found:
        raise BaseLoadError(
            "there is no tokenizer.json (or vocab.txt) in the folder: save the tokenizer beside the model "
            "(save_pretrained), or download its files, too"
        )
    for path in [*found, *(folder / name for name in _SETTINGS)]:
        if path.is_file():
            _check_file(path)
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        check_own_code(_read_json(settings).get("auto_map"), "AutoTokenizer", settings.name)


def _tokenizer_files(folder: Path) -> list[Path]:
    """Return the files that the words of the tokenizer are read from, the best ones there are."""
    for names in (("tokenizer.json",), _VOCABULARIES):
        if found := [folder / name for name in names if (folder / name).is_file()]:
            return found
    return sorted(folder.glob("*.model"))


def _check_file(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise BaseLoadError(f"{path.name} is a Git LFS pointer, not the file: run `git lfs pull` there")
    if not start:
        raise BaseLoadError(f"{path.name} is empty")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np"):
                return
        if path.suffix == ".json" and not isinstance(_read_json(path), dict):
            raise BaseLoadError(f"{path.name} must hold a JSON object")
    except SafetensorError as error:
        raise BaseLoadError(f"{path.name} is damaged or cut off: {error}") from error
    except (ValueError, RecursionError) as error:
        raise BaseLoadError(f"{path.name} is damaged, not JSON: {error}") from error


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
