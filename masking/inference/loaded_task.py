"""Loaded task: made from a bundle, checked whole against the base, immutable, ready to be computed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from mask_store import BitsInfo, BundleMember, Manifest, MaskBundle, SignManifest, unpack_bits
from masking.base import Base
from masking.binarize import apply_mask
from masking.heads import ACTIVATIONS, Linear
from masking.inference.resident import ResidentWeights
from masking.inference.signs import TaskSigns
from masking.inference.task_masks import TaskMasks
from masking.kernels import rice_decoder
from masking.known_task import KnownTask, know_task
from masking.tasks import head_activation


@dataclass(frozen=True)
class Member:
    """One mask of a task over the base, or the signs of a copy, with its head.

    Attributes:
        masks: Masks or signs of the base's layers, one bit per weight.
        head: Tensors of the head that are not part of the base, float32, masks applied.
        signs: Numbers of the signs; None where the bits are masks.
        activation: Between pooler and classifier; None where there is no pooler.
    """

    masks: TaskMasks
    head: Mapping[str, Tensor]
    signs: TaskSigns | None = None
    activation: Linear | None = None

    @property
    def head_nbytes(self) -> int:
        """Bytes of the head tensors."""
        return sum(tensor.nbytes for tensor in self.head.values())

    @property
    def signs_nbytes(self) -> int:
        """Bytes of the signs' numbers."""
        return 0 if self.signs is None else self.signs.nbytes


@dataclass(frozen=True)
class LoadedTask(KnownTask):
    """A task ready to be served: immutable, checked whole against the base.

    Attributes:
        members: Its masks, at least one.
    """

    members: tuple[Member, ...]

    @property
    def known(self) -> KnownTask:
        """The same task without its masks."""
        return KnownTask(**{field.name: getattr(self, field.name) for field in fields(KnownTask)})

    @property
    def masks_nbytes(self) -> int:
        """Bytes of the masks of all members."""
        return sum(member.masks.nbytes for member in self.members)

    @property
    def head_nbytes(self) -> int:
        """Bytes of the head tensors of all members."""
        return sum(member.head_nbytes for member in self.members)

    @property
    def signs_nbytes(self) -> int:
        """Bytes of the scales, biases, LayerNorms and rows of embeddings of signs."""
        return sum(member.signs_nbytes for member in self.members)

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return self.masks_nbytes + self.head_nbytes + self.signs_nbytes

    def bare(self) -> Self:
        """Return embeddings of the base itself, without masks and signs, in the same way."""
        return replace(self, members=(Member(TaskMasks({}), {}),), combine=None, copies=1)


def load_task(bundle: MaskBundle, base: Base, weights: ResidentWeights | None = None) -> LoadedTask:
    """Check a bundle against the base and bring its tensors to the base's device.

    Args:
        bundle: The bundle.
        base: The resident base.
        weights: The base's layers as the encoder that is to compute the task has them; without, its own.

    Raises:
        MaskingError: It does not fit the base; see `know_task`.
    """
    known = know_task(bundle.manifest, bundle.digest, base)  # what does not fit costs no decoding
    return ready_task(known, bundle, weights or ResidentWeights(base.device))


def ready_task(known: KnownTask, bundle: MaskBundle, weights: ResidentWeights) -> LoadedTask:
    """Bring the tensors of a bundle to the device.

    Args:
        known: What is known of the bundle.
        bundle: The bundle.
        weights: The base's layers as the encoder that is to compute the task has them.
    """
    manifest = bundle.manifest
    load = _load_signs if isinstance(manifest, SignManifest) else _load_masks
    members = tuple(
        replace(load(member, weights), activation=_activation(manifest, member.info))
        for member in bundle.members
    )
    return LoadedTask(**vars(known), members=members)


def _load_masks(member: BundleMember, weights: ResidentWeights) -> Member:
    layers = {layer.name: layer for layer in member.info.layers}
    head = {name: torch.from_numpy(tensor.copy()) for name, tensor in member.head.items()}
    of_base = {}
    masks = member.masks.decoded_by(rice_decoder(weights.device, weights.kernels))
    for name, bits in masks.items():
        if (own := head.get(f"{name}.weight")) is None:
            of_base[name] = bits
        else:
            mask = torch.from_numpy(unpack_bits(bits, layers[name].columns))
            head[f"{name}.weight"] = apply_mask(own, mask)
    on_device = {name: tensor.to(weights.device) for name, tensor in head.items()}
    return Member(TaskMasks.of(of_base, layers, weights), on_device)


def _load_signs(member: BundleMember, weights: ResidentWeights) -> Member:
    layers = {layer.name: layer for layer in member.info.layers}
    head = {name: torch.from_numpy(tensor.copy()).to(weights.device) for name, tensor in member.head.items()}
    masks = TaskMasks.of(member.masks, layers, weights, signs=True)
    signs = TaskSigns.of(member, weights.device) if layers else None
    return Member(masks, head, signs)


def _activation(manifest: Manifest, info: BitsInfo) -> Linear | None:
    name = head_activation(manifest.kind, info)
    return None if name is None else ACTIVATIONS[name]
