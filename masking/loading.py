"""Loading of a base from the Hugging Face hub or from a local folder in the hub's format.

What is random in a freshly loaded model (a pooler that the checkpoint lacks) is thrown away here, so that
every tensor of a `Base` is pretrained. Whatever a library raises on the way becomes one sentence.
"""

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from masking.architectures import check_architecture
from masking.base import Base, Tokenizer, take_pooler
from masking.base_folder import check_folder, sentencepiece_alone
from masking.checks import check_checkpoint, check_config, naming
from masking.errors import BaseLoadError, MaskingError, first_line


def load_base(name_or_path: str, *, revision: str | None = None, device: str | torch.device = "cpu") -> Base:
    """Load a pretrained encoder from the hub or from a folder.

    Args:
        name_or_path: Hub id ("bert-base-uncased") or a folder in the hub's format.
        revision: Branch, tag or commit on the hub.
        device: Where the base tensors live.

    Returns:
        The frozen base in fp32.

    Raises:
        BaseLoadError: There is no such encoder, its files are missing or broken, its weights, configuration
            and tokenizer do not go together, or it would not be computed as it was saved.
        UnsupportedArchitectureError: It is no encoder, or its layers can't be masked.
    """
    with naming(name_or_path):
        if revision is not None and Path(name_or_path).is_dir():
            raise BaseLoadError(f"a folder has no revisions, found {revision!r}; leave --revision out")
        with reading("the folder"):
            check_folder(name_or_path)
        with silent_transformers():
            config = _load_config(name_or_path, revision)
            encoder = load_encoder(name_or_path, revision)
            tokenizer = load_tokenizer(name_or_path, revision)
        with reading(f"on {device} its encoder"):
            encoder.to(device)  # type: ignore[arg-type] # transformers' decorator hides the parameters
    name = short_name(name_or_path)
    return Base.from_model(encoder, tokenizer, name=name, revision=revision or commit_of(config))


def _load_config(name_or_path: str, revision: str | None) -> PretrainedConfig:
    there = "" if Path(name_or_path).is_dir() else "there is no such folder; on the Hugging Face hub "
    with reading(f"{there}its config.json"):
        fields, _ = PretrainedConfig.get_config_dict(name_or_path, revision=revision)
        if "model_type" not in fields:
            raise BaseLoadError("config.json has no model_type, such as 'bert'")
        check_architecture(str(fields["model_type"]))
        config: PretrainedConfig = AutoConfig.from_pretrained(
            name_or_path, revision=revision, trust_remote_code=False
        )
    check_config(config)
    return config


def load_encoder(name_or_path: str, revision: str | None) -> PreTrainedModel:
    """Load an encoder as transformers does, without a pooler that its checkpoint lacks.

    Raises:
        BaseLoadError: It can't be loaded, or its checkpoint is not that of the encoder.
    """
    encoder: PreTrainedModel
    with reading("its encoder"):
        encoder, report = AutoModel.from_pretrained(
            name_or_path,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # `check_checkpoint` refuses them, and names them
            trust_remote_code=False,
        )
    missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
    pooler = getattr(encoder, "pooler", None) or nn.Module()
    names = {f"pooler.{name}" for name, _ in pooler.named_parameters()}
    if names and missing >= names:
        missing -= names
        take_pooler(encoder)
    check_checkpoint(encoder, missing, unexpected, sorted(report["mismatched_keys"]))
    return encoder


def load_tokenizer(name_or_path: str, revision: str | None) -> Tokenizer:
    """Load a tokenizer as transformers does.

    Raises:
        BaseLoadError: There is none that can be read.
    """
    tokenizer: Tokenizer
    try:
        with reading("its tokenizer (best as tokenizer.json)"):
            tokenizer = AutoTokenizer.from_pretrained(
                name_or_path, revision=revision, trust_remote_code=False
            )
    except BaseLoadError as error:
        if found := sentencepiece_alone(name_or_path):
            raise BaseLoadError(
                f"its tokenizer is {found} alone, which can't be read here; wanted: tokenizer.json, which "
                "AutoTokenizer makes of it (save_pretrained) where the package sentencepiece is installed"
            ) from error
        raise
    return tokenizer


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a library raises over a part of a base into one sentence."""
    try:
        yield
    except MaskingError:
        raise
    except Exception as error:
        reason = first_line(error)
        if isinstance(error, pickle.UnpicklingError):  # torch advises to run what is in the file
            reason = "its file is no checkpoint of PyTorch, or damaged; model.safetensors is wanted"
        raise BaseLoadError(f"{what} can't be loaded: {reason}") from error


@contextmanager
def silent_transformers() -> Iterator[None]:
    """Keep transformers from printing, and leave its settings, which are the process's, as they were."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def short_name(name_or_path: str) -> str:
    """Return a model's name for people: its hub id, or its folder's name."""
    path = Path(name_or_path)
    return path.resolve().name if path.is_dir() else name_or_path


def commit_of(config: Any) -> str | None:
    """Return the commit on the hub that a configuration was loaded from."""
    commit = getattr(config, "_commit_hash", None)
    return str(commit) if commit else None
