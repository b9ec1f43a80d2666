"""Base: the pretrained encoder, loaded once, frozen, fp32, never written to.

It comes from the Hugging Face hub, from a local folder in the hub's format, or from a model in memory. What
is random in a freshly loaded model (a pooler that the checkpoint lacks) is thrown away here, so that every
tensor of a `Base` is pretrained and its fingerprint means something.
"""

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from mask_store import BaseInfo
from masking.architectures import count_blocks, layer_names
from masking.errors import BaseLoadError

Tokenizer = PreTrainedTokenizerBase

_POSITIONS_START_AFTER_PAD = ("roberta", "xlm-roberta", "mpnet")


@dataclass(frozen=True)
class Base:
    """A pretrained encoder and what belongs to it.

    Attributes:
        encoder: The encoder without its pooler; evaluation mode, fp32, no gradients.
        pooler: The pretrained W_P, [hidden, hidden], or None where the checkpoint has none.
        tokenizer: The encoder's own (fast) tokenizer.
        info: Name, revision, architecture, fingerprint and number of parameters.
    """

    encoder: PreTrainedModel
    pooler: nn.Linear | None
    tokenizer: Tokenizer
    info: BaseInfo

    @classmethod
    def from_model(
        cls, model: PreTrainedModel, tokenizer: Tokenizer, *, name: str, revision: str | None = None
    ) -> Self:
        """Make a base of a transformers model in memory, on the device where it is.

        The model is taken over, not copied: it is frozen, in evaluation mode, widened to fp32, and its pooler
        is moved to the base's `pooler`.

        Args:
            model: An encoder without a task's head (`AutoModel`), with a pooler or without.
            tokenizer: Its fast tokenizer.
            name: How bundles and messages name it.
            revision: Revision on the hub, where there is one.

        Raises:
            BaseLoadError: The model has a task's head, or the tokenizer is not a fast one.
            UnsupportedArchitectureError: It is not a BERT-like encoder with a row in `masking.architectures`.
        """
        architecture = model.config.model_type
        layer_names(architecture)
        if model.base_model is not model:
            raise BaseLoadError(f"base {name!r}: {type(model).__name__} has a head; pass its `base_model`")
        if not tokenizer.is_fast:
            raise BaseLoadError(f"base {name!r}: it has no fast tokenizer (tokenizer.json)")
        model.float().eval().requires_grad_(False)
        pooler = _take_pooler(model)
        tensors = base_tensors(model, pooler)
        info = BaseInfo(
            name=name,
            revision=revision,
            architecture=architecture,
            fingerprint=fingerprint(tensors),
            parameters=sum(tensor.numel() for _, tensor in tensors),
        )
        return cls(model, pooler, tokenizer, info)

    @property
    def device(self) -> torch.device:
        """Device that holds the base tensors."""
        return next(self.encoder.parameters()).device

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's output."""
        return int(self.encoder.config.hidden_size)

    @property
    def num_blocks(self) -> int:
        """Number of transformer blocks."""
        return count_blocks(self.encoder, self.info.architecture)

    @property
    def first_position(self) -> int:
        """Position id of an input's first token."""
        after_pad = self.info.architecture in _POSITIONS_START_AFTER_PAD
        return int(self.encoder.config.pad_token_id) + 1 if after_pad else 0

    @property
    def max_positions(self) -> int:
        """Longest input in tokens, special tokens included."""
        positions = int(self.encoder.config.max_position_embeddings) - self.first_position
        return min(positions, int(self.tokenizer.model_max_length))

    @property
    def nbytes(self) -> int:
        """Bytes of the base tensors."""
        return sum(tensor.nbytes for _, tensor in base_tensors(self.encoder, self.pooler))

    def share_encoder(self) -> PreTrainedModel:
        """Return a second encoder with modules of its own over the SAME base tensors (no bytes are copied).

        Its modules can be wrapped or parametrized while this base stays as it was loaded.
        """
        tensors = [*self.encoder.parameters(), *self.encoder.buffers()]
        return copy.deepcopy(self.encoder, {id(tensor): tensor for tensor in tensors})


def base_tensors(encoder: nn.Module, pooler: nn.Linear | None) -> list[tuple[str, Tensor]]:
    """Return name and tensor of everything pretrained, sorted by name."""
    tensors: list[tuple[str, Tensor]] = list(encoder.named_parameters())
    if pooler is not None:
        tensors += [(f"pooler.dense.{name}", tensor) for name, tensor in pooler.named_parameters()]
    return sorted(tensors)


def fingerprint(tensors: list[tuple[str, Tensor]]) -> str:
    """Hash base tensors: names, shapes and every byte (none on the meta device), in the order given.

    Returns:
        "sha256:" and 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        if not tensor.is_meta:
            digest.update(tensor.detach().cpu().contiguous().numpy().data.cast("B"))
    return f"sha256:{digest.hexdigest()}"


def choose_device(wanted: str) -> torch.device:
    """Return a device by its name; "auto" is the GPU where there is one.

    Raises:
        ValueError: This machine does not have it.
    """
    available = torch.cuda.is_available()
    if wanted == "auto":
        return torch.device("cuda" if available else "cpu")
    device = torch.device(wanted)
    missing = device.type == "cuda" and not (available and (device.index or 0) < torch.cuda.device_count())
    if missing or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise ValueError(f"{wanted}: this machine has no such device; use cpu or auto")
    return device


def load_base(name_or_path: str, *, revision: str | None = None, device: str | torch.device = "cpu") -> Base:
    """Load a pretrained encoder from the hub or from a folder.

    Args:
        name_or_path: Hub id ("bert-base-uncased") or a folder in the hub's format.
        revision: Branch, tag or commit on the hub.
        device: Where the base tensors live.

    Returns:
        The frozen base in fp32.

    Raises:
        BaseLoadError: There is no such encoder, its files are broken, or tensors are missing.
        UnsupportedArchitectureError: It is not a BERT-like encoder with a row in `masking.architectures`.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
        layer_names(config.model_type)
        encoder, missing = _load_encoder(name_or_path, revision)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BaseLoadError(_why(name_or_path, error)) from error
    of_pooler = {name for name in missing if name.startswith("pooler.")}
    if missing := missing - of_pooler:
        some = ", ".join(sorted(missing)[:3])
        raise BaseLoadError(
            f"base {name_or_path!r}: its checkpoint lacks {len(missing)} tensors ({some}, ...)"
        )
    if of_pooler:
        _take_pooler(encoder)
    encoder.to(device)  # type: ignore[arg-type] # transformers' decorator hides the parameters
    name = _short_name(name_or_path)
    return Base.from_model(encoder, tokenizer, name=name, revision=revision or _commit(config))


def _load_encoder(name_or_path: str, revision: str | None) -> tuple[PreTrainedModel, set[str]]:
    """Load the encoder as transformers does; return it with the names of tensors its checkpoint lacks."""
    with _silent_transformers():  # a missing pooler is no news to the user
        encoder, report = AutoModel.from_pretrained(
            name_or_path,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
        )
    return encoder, set(report["missing_keys"])


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Keep transformers from printing, and leave its settings, which are the process's, as they were."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _take_pooler(encoder: Any) -> nn.Linear | None:
    """Remove the pooler from `encoder` and return its linear layer."""
    pooler = getattr(encoder, "pooler", None)
    if pooler is None:
        return None
    encoder.pooler = None
    return pooler.dense  # type: ignore[no-any-return]


def _short_name(name_or_path: str) -> str:
    path = Path(name_or_path)
    return path.resolve().name if path.is_dir() else name_or_path


def _commit(config: PretrainedConfig) -> str | None:
    commit = getattr(config, "_commit_hash", None)
    return str(commit) if commit else None


def _why(name_or_path: str, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    looks_local = Path(name_or_path).exists() or name_or_path.startswith((".", "/", "~"))
    hint = (
        "a folder with config.json, model.safetensors and tokenizer.json"
        if looks_local
        else ("a folder in the hub's format or an id on the Hugging Face hub")
    )
    return f"base {name_or_path!r} can't be loaded (wanted: {hint}): {first_line}"
