"""Blocks of an encoder: its transformer blocks, and the linear layers in them that a mask applies to."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from masking.architectures.names import LAYER_NAMES, LayerNames
from masking.architectures.probe import probe
from masking.errors import UnknownLayerError

Module = TypeVar("Module", bound=nn.Module)

_TOKEN_TYPES = "token_type_embeddings"


@dataclass(frozen=True)
class Blocks:
    """The blocks of an encoder, by names, so that they hold for every copy of its modules.

    Attributes:
        path: Module path of the list of blocks.
        layers: Per block its maskable linear layers, full names in the order of the computation.
        norms: LayerNorms and RMSNorms that are computed on the tokens of a batch, full names.
        unmasked: By full name each other linear layer of the blocks, and why it is not masked.
        known: The row of names of BERT's kin; None where the layers were found by computing.
        passes: How often each block is computed for a token; ALBERT shares one among all its layers.
    """

    path: str
    layers: tuple[tuple[str, ...], ...]
    norms: tuple[str, ...]
    unmasked: Mapping[str, str] = field(default_factory=dict)
    known: LayerNames | None = None
    passes: int = 1

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.layers)

    def linears(self, encoder: nn.Module, blocks: Iterable[int] | None = None) -> dict[str, nn.Linear]:
        """Return the maskable linear layers by full name, in the order of the computation.

        Args:
            encoder: The encoder that the blocks were found in, or a copy of its modules.
            blocks: Numbers of the blocks; None for all.

        Raises:
            UnknownLayerError: This encoder has no such linear layer.
        """
        there = _modules(encoder, nn.Linear)
        chosen = range(len(self)) if blocks is None else blocks
        return {name: _named(there, name) for block in chosen for name in self.layers[block]}

    def layer_norms(self, encoder: nn.Module) -> dict[str, nn.Module]:
        """Return the LayerNorms and RMSNorms that are computed on the tokens of a batch, by full name."""
        return {name: encoder.get_submodule(name) for name in self.norms}

    @property
    def masked_names(self) -> tuple[str, ...]:
        """Names within a block of the layers that are masked, in the order of the computation."""
        return tuple(dict.fromkeys(self._in_block(name) for names in self.layers for name in names))

    @property
    def unmasked_names(self) -> Mapping[str, str]:
        """Names within a block of the layers that are not masked, and why."""
        return {self._in_block(name): reason for name, reason in self.unmasked.items()}

    def describe(self) -> str:
        """Tell in one line what is masked, and what is not and why."""
        counts = Counter(self._in_block(name) for names in self.layers for name in names)
        masked = [
            name if counts[name] == len(self) else f"{name} (in {counts[name]})" for name in self.masked_names
        ]
        shared = f", computed {self.passes} times" if self.passes > 1 else ""
        blocks = f"{len(self)} block{'s' * (len(self) > 1)} ({self.path}){shared}"
        text = f"{blocks}, masked in each: {', '.join(masked)}"
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.unmasked_names.items():
            by_reason.setdefault(reason, []).append(name)
        left = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
        return text + (f"; not masked: {left}" if left else "")

    def _in_block(self, name: str) -> str:
        return name.removeprefix(f"{self.path}.").partition(".")[2]


def find_blocks(encoder: PreTrainedModel) -> Blocks:
    """Find the blocks of an encoder: by the row of names that fits it, else by computing a few tokens.

    Args:
        encoder: In evaluation mode, without its pooler; one without a row must hold values.

    Raises:
        UnsupportedArchitectureError: No linear layers can be found that are computed token by token, or the
            encoder can't be served in batches; with the reason.
    """
    names = LAYER_NAMES.get(encoder.config.model_type)
    if names is not None and (found := _by_names(encoder, names)) is not None:
        return found
    probed = probe(encoder)
    return Blocks(probed.path, probed.layers, probed.norms, probed.unmasked, passes=probed.passes)


def row_embeddings(encoder: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the embeddings of which a copy may have rows of its own, by their full names.

    That of tokens comes first; then that of token types, where there is one.
    """
    wanted, modules = encoder.get_input_embeddings(), list(encoder.named_modules())
    tokens = {name: module for name, module in modules if module is wanted}
    types = {name: module for name, module in modules if name.endswith(_TOKEN_TYPES)}
    return tokens | types


def _by_names(encoder: PreTrainedModel, names: LayerNames) -> Blocks | None:
    """Return the blocks that a row names; None where they have other linear layers."""
    linears = _modules(encoder, nn.Linear)
    inside = {name for name in linears if name.startswith(f"{names.blocks}.")}
    count = len({name.removeprefix(f"{names.blocks}.").partition(".")[0] for name in inside})
    layers = tuple(names.in_block(block) for block in range(count))
    if not inside or inside != {name for block in layers for name in block}:
        return None
    norms = tuple(_modules(encoder, nn.LayerNorm))
    passes = max(1, int(encoder.config.num_hidden_layers) // count)
    return Blocks(names.blocks, layers, norms, known=names, passes=passes)


def _modules(encoder: nn.Module, kind: type[Module]) -> dict[str, Module]:
    return {name: module for name, module in encoder.named_modules() if isinstance(module, kind)}


def _named(linears: dict[str, nn.Linear], name: str) -> nn.Linear:
    if name not in linears:
        some = ", ".join(list(linears)[:8])
        raise UnknownLayerError(f"no linear layer is called {name!r}; this encoder has {some}, ...")
    return linears[name]
