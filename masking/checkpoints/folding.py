"""Folding: the dense weights that a task's bits stand for, the plain statement of what is served."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mask_store import BundleMember, unpack_bits
from masking.base import Base, base_tensors
from masking.binarize import apply_mask


def folded_tensors(member: BundleMember, base: Base) -> dict[str, Tensor]:
    """Fold a mask or signs into the base's weights.

    Args:
        member: The bits with their numbers.
        base: The base; not written to.

    Returns:
        By name, float32: every tensor of the base with its pooler, W * M or W + a (2b - 1) in place of W, the
        rows of embeddings that the task has of its own, and those of the head.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in base_tensors(base.encoder, base.pooler)}
    for part in (member.own, member.head):
        tensors |= {name: torch.from_numpy(array.copy()) for name, array in part.items()}
    for name, values in member.rows.items():
        changed = unpack_bits(member.changed[name], len(tensors[name]))[0]
        tensors[name] = tensors[name].clone()
        tensors[name][torch.from_numpy(changed)] = torch.from_numpy(values.copy())
    for layer in member.info.layers:
        bits = torch.from_numpy(unpack_bits(member.masks[layer.name], layer.columns))
        name = f"{layer.name}.weight"
        tensors[name] = _fold(tensors[name], bits, layer.name, member.scales)
    return tensors


def _fold(weight: Tensor, bits: Tensor, name: str, scales: Mapping[str, object]) -> Tensor:
    if name not in scales:
        return apply_mask(weight, bits)
    scale = torch.tensor(scales[name]).unsqueeze(1)
    return weight + torch.where(bits, scale, -scale)
