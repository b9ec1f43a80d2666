"""Base: the pretrained encoder, loaded once, frozen, fp32, never written to.

It comes from the Hugging Face hub or a local folder (`masking.loading`), or from a model in memory. Its
identity, which masks are bound to, is of weights, tokenizer and configuration: of all that decides an answer.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mask_store import BaseInfo
from masking.architectures import Blocks, check_architecture, find_blocks
from masking.checks import check_config, check_encoder, check_tokenizer, fit_tokenizer, naming
from masking.errors import BaseLoadError
from masking.heads import POOLER
from masking.identity import configuration_digest, tokenizer_digest, weights_digest

Tokenizer = PreTrainedTokenizerBase


@dataclass(frozen=True)
class Base:
    """A pretrained encoder and what belongs to it.

    Attributes:
        encoder: The encoder without its pooler; evaluation mode, fp32, no gradients.
        pooler: The pretrained W_P, [hidden, hidden], or None where the checkpoint has none.
        tokenizer: The encoder's own (fast) tokenizer.
        info: Name, revision, architecture, identity and number of parameters.
        blocks: Its blocks, and the layers in them that masks apply to.
    """

    encoder: PreTrainedModel
    pooler: nn.Linear | None
    tokenizer: Tokenizer
    info: BaseInfo
    blocks: Blocks

    @classmethod
    def from_model(
        cls, model: PreTrainedModel, tokenizer: Tokenizer, *, name: str, revision: str | None = None
    ) -> Self:
        """Make a base of a transformers model in memory, on the device where it is.

        Both are taken over, not copied: the model is frozen, in evaluation mode, widened to fp32, and its
        pooler is moved to the base's `pooler`; a tokenizer gives no segments to an encoder that takes none.

        Args:
            model: An encoder without a task's head (`AutoModel`), with a pooler or without.
            tokenizer: Its fast tokenizer.
            name: How bundles and messages name it.
            revision: Revision on the hub, where there is one.

        Raises:
            BaseLoadError: The model has a task's head, or can't be computed as its configuration says; or the
                tokenizer is not a fast one, or does not go with the model.
            UnsupportedArchitectureError: It is no encoder, or its layers can't be masked.
        """
        architecture = model.config.model_type
        if model.base_model is not model:
            raise BaseLoadError(f"base {name!r}: {type(model).__name__} has a head; pass its `base_model`")
        model.float().eval().requires_grad_(False)
        model.config.return_dict = True
        pooler = take_pooler(model)
        tensors = base_tensors(model, pooler)
        with naming(name):
            check_architecture(architecture)
            check_config(model.config)
            check_encoder(model, tensors)
            fit_tokenizer(tokenizer, model)
            check_tokenizer(tokenizer, model)
            blocks = find_blocks(model)
        info = BaseInfo(
            name=name,
            revision=revision,
            architecture=architecture,
            fingerprint=weights_digest(tensors),
            tokenizer=tokenizer_digest(tokenizer),
            configuration=configuration_digest(model.config),
            parameters=sum(tensor.numel() for _, tensor in tensors),
        )
        return cls(model, pooler, tokenizer, info, blocks)

    @cached_property
    def maskable_linears(self) -> Mapping[str, nn.Linear]:
        """Every layer that a mask may apply to, by its name in a bundle."""
        linears = self.blocks.linears(self.encoder)
        return linears if self.pooler is None else linears | {POOLER: self.pooler}

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
        return len(self.blocks)

    @property
    def first_position(self) -> int:
        """Position id of an input's first token."""
        padding: int | None = getattr(getattr(self.encoder, "embeddings", None), "padding_idx", None)
        return 0 if padding is None else padding + 1

    @property
    def max_positions(self) -> int:
        """Longest input in tokens, special tokens included."""
        longest = int(self.tokenizer.model_max_length)
        positions: int | None = getattr(self.encoder.config, "max_position_embeddings", None)
        return longest if positions is None else min(positions - self.first_position, longest)

    @property
    def nbytes(self) -> int:
        """Bytes of the base tensors, those that were let go of not counted."""
        tensors = base_tensors(self.encoder, self.pooler)
        return sum(tensor.nbytes for _, tensor in tensors if not tensor.is_meta)

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


def take_pooler(encoder: Any) -> nn.Linear | None:
    """Remove the pooler from `encoder` and return its linear layer; see `pooler_of`."""
    dense = pooler_of(encoder)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return dense


def pooler_of(encoder: Any) -> nn.Linear | None:
    """Return the linear layer of an encoder's pooler, if it has one from width to width."""
    pooler, width = getattr(encoder, "pooler", None), encoder.config.hidden_size
    dense = pooler if isinstance(pooler, nn.Linear) else getattr(pooler, "dense", None)
    fits = isinstance(dense, nn.Linear) and (dense.in_features, dense.out_features) == (width, width)
    return dense if fits else None
