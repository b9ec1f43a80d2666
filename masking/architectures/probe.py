"""Probe: the rule that finds the maskable linear layers of an encoder that nothing is known about.

The blocks are the outermost list of modules that holds most of the encoder's linear weights. A few tokens are
computed, and what each linear layer of the blocks is given is looked at. A layer is maskable if it is given
the tokens of the batch, one row of numbers for each, whenever it is computed: then a mask of a task's own can
be applied to the task's tokens. What is given anything else, such as DeBERTa's relative positions, is shared
by all tasks of a batch and stays unmasked. So does what is not computed at all.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from masking.errors import UnsupportedArchitectureError, first_line

_ROWS, _TOKENS, _SHORT = 2, 7, 4
_NEAR = 1e-3
_ELSEWHERE, _NEVER = "not computed on tokens alone", "not computed"


@dataclass(frozen=True)
class Probed:
    """What was found; see `masking.architectures.blocks.Blocks`."""

    path: str
    layers: tuple[tuple[str, ...], ...]
    norms: tuple[str, ...]
    unmasked: dict[str, str]
    passes: int


@dataclass
class _Calls:
    """What layers were given.

    Attributes:
        on_tokens: By name, in the order of the first call, whether every call was on the batch's tokens.
        counts: By name, the number of calls.
    """

    on_tokens: dict[str, bool] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def see(self, name: str, inputs: tuple[Any, ...]) -> None:
        """Note one call."""
        given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        leading = () if given is None else tuple(given.shape[:-1])
        on_tokens = leading in ((_ROWS, _TOKENS), (_ROWS * _TOKENS,))
        self.on_tokens[name] = self.on_tokens.get(name, True) and on_tokens
        self.counts[name] += 1


def probe(encoder: PreTrainedModel) -> Probed:
    """Find the maskable layers of an encoder, and make sure that it can be computed in batches.

    Args:
        encoder: In evaluation mode; with values, which are not changed.

    Raises:
        UnsupportedArchitectureError: There are none, or it can't be; with the reason.
    """
    architecture = encoder.config.model_type
    path = _list_of_blocks(encoder)
    if path is None:
        raise UnsupportedArchitectureError(
            f"no list of blocks with linear layers (torch.nn.Linear) was found in this {architecture!r}"
        )
    ids = _token_ids(encoder)
    try:
        with torch.inference_mode(), _watched(encoder) as calls:
            hidden = _compute(encoder, ids)
        found = _sorted_out(encoder, path, calls)
        with torch.inference_mode():
            _check_hidden(encoder, ids, hidden)
    except UnsupportedArchitectureError:
        raise
    except Exception as error:  # whatever a model raises that needs other inputs
        raise UnsupportedArchitectureError(
            f"this {architecture!r} is not computed from tokens alone: {first_line(error)}"
        ) from error
    return found


def _list_of_blocks(encoder: nn.Module) -> str | None:
    """Return the path of the outermost module list with most weights in linear layers."""
    lists: dict[str, int] = {}
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{one}.") for one in lists):
            linears = (one for one in module.modules() if isinstance(one, nn.Linear))
            lists[name] = sum(one.weight.numel() for one in linears)
    best = max(lists, key=lambda name: lists[name], default=None)
    return best if best is not None and lists[best] else None


def _token_ids(encoder: PreTrainedModel) -> Tensor:
    """Return two rows of tokens, int64 [rows, tokens], which differ in the last."""
    vocabulary = len(encoder.get_input_embeddings().weight)  # type: ignore[arg-type]
    padding = getattr(encoder.config, "pad_token_id", None)
    usable = [number for number in range(min(vocabulary, _TOKENS + 2)) if number != padding]
    row = (usable * _TOKENS)[:_TOKENS]
    return torch.tensor([row, [*row[:-1], usable[-1]]], device=encoder.device)


@contextmanager
def _watched(encoder: nn.Module) -> Iterator[_Calls]:
    """Note what is given to linear layers, LayerNorms and RMSNorms, inside the context."""
    calls = _Calls()

    def hook(name: str) -> Any:
        return lambda _layer, inputs: calls.see(name, inputs)

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) or _is_norm(module)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _is_norm(module: nn.Module) -> bool:
    """Tell a LayerNorm or RMSNorm; architectures have classes of their own for the latter, of one weight."""
    if isinstance(module, nn.LayerNorm):
        return True
    names = [name for name, _ in module.named_parameters()]
    return type(module).__name__.endswith("RMSNorm") and names == ["weight"]


def _compute(encoder: PreTrainedModel, ids: Tensor, tokens: int | None = None) -> Tensor:
    """Compute rows of which only the first `tokens` are there: [rows, tokens, width]."""
    mask = torch.ones_like(ids)
    if tokens is not None:
        mask[0, tokens:] = 0
    hidden: Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden


def _sorted_out(encoder: PreTrainedModel, path: str, calls: _Calls) -> Probed:
    """Divide the linear layers of the blocks into those that are maskable and those that are not."""
    modules = dict(encoder.named_modules())
    inside = [
        name
        for name, module in modules.items()
        if name.startswith(f"{path}.") and isinstance(module, nn.Linear)
    ]
    maskable = [name for name, on_tokens in calls.on_tokens.items() if on_tokens and name in set(inside)]
    if not maskable:
        raise UnsupportedArchitectureError(
            f"no linear layer in {path} of this {encoder.config.model_type!r} is computed token by token"
        )
    numbers = [name for name, _ in encoder.get_submodule(path).named_children()]
    layers = [tuple(n for n in maskable if n.startswith(f"{path}.{number}.")) for number in numbers]
    unmasked = {name: _ELSEWHERE if name in calls.on_tokens else _NEVER for name in inside}
    return Probed(
        path,
        tuple(layers),
        tuple(name for name, on_tokens in calls.on_tokens.items() if on_tokens and _is_norm(modules[name])),
        {name: reason for name, reason in unmasked.items() if name not in set(maskable)},
        calls.counts[maskable[0]],
    )


def _check_hidden(encoder: PreTrainedModel, ids: Tensor, hidden: Tensor) -> None:
    """Refuse an encoder whose first token does not see the last, or that answers otherwise in a batch."""
    architecture, width = encoder.config.model_type, getattr(encoder.config, "hidden_size", None)
    if tuple(hidden.shape) != (_ROWS, _TOKENS, width):
        raise UnsupportedArchitectureError(
            f"this {architecture!r} gives {tuple(hidden.shape)} for {_ROWS} rows of {_TOKENS} tokens, not "
            f"{(_ROWS, _TOKENS, width)}"
        )
    if torch.equal(hidden[0, 0], hidden[1, 0]):
        raise UnsupportedArchitectureError(
            f"this {architecture!r} is a decoder: its first token, which tells a row's answer, sees no other"
        )
    padded = _compute(encoder, ids, _SHORT)[0, :_SHORT]
    alone = _compute(encoder, ids[:1, :_SHORT])[0]
    if float((padded - alone).abs().max()) > _NEAR * float(alone.abs().max()):
        raise UnsupportedArchitectureError(
            f"this {architecture!r} computes other states of a row that is padded in a batch than of it alone"
        )
