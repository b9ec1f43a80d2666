"""Loaded task: made from a bundle, checked whole against the base, immutable, ready to be computed."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from mask_store import (
    BaseInfo,
    BitsInfo,
    BundleMember,
    CombineRule,
    Manifest,
    MaskBundle,
    SignManifest,
    unpack_bits,
)
from masking.architectures import token_embedding
from masking.base import Base, Tokenizer
from masking.binarize import apply_mask
from masking.errors import BaseMismatchError, UnknownLayerError
from masking.heads import ACTIVATIONS, CLASSIFIER, POOLER, Linear
from masking.inference.resident import ResidentWeights
from masking.inference.signs import TaskSigns
from masking.inference.task_masks import TaskMasks
from masking.tasks import MODEL_KINDS, TaskCodec, TaskSpec, head_activation, task_codec

logger = logging.getLogger(__name__)


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
class LoadedTask:
    """A task ready to be served: immutable, checked whole against the base.

    Attributes:
        manifest: The bundle's manifest.
        digest: Digest of the bundle's bytes.
        spec: Kind, labels and input size.
        codec: Encodes its inputs and decodes its logits.
        tokenizer: The base's tokenizer.
        members: Its masks, at least one.
        combine: How the answers of several members become one; None where there is one.
    """

    manifest: Manifest
    digest: str
    spec: TaskSpec
    codec: TaskCodec
    tokenizer: Tokenizer
    members: tuple[Member, ...]
    combine: CombineRule | None = None

    @property
    def base_checked(self) -> tuple[str, ...]:
        """Parts of the base that are known to be those that the task was learned with."""
        return tuple(self.manifest.base.identity)

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
        return replace(self, members=(Member(TaskMasks({}), {}),), combine=None)

    def shortened(self, max_length: int) -> Self:
        """Return the same task with rows of at most `max_length` tokens, or its own length if that is less.

        Args:
            max_length: At least the codec's `shortest_row`.
        """
        spec = replace(self.spec, max_length=min(max_length, self.spec.max_length))
        return replace(self, spec=spec, codec=task_codec(spec, self.tokenizer))


def load_task(bundle: MaskBundle, base: Base, weights: ResidentWeights | None = None) -> LoadedTask:
    """Check a bundle against the base and bring its tensors to the base's device.

    Args:
        bundle: The bundle.
        base: The resident base.
        weights: The base's layers as the encoder that is to compute the task has them; without, its own.

    Raises:
        BaseMismatchError: It was learned on another base, or on one with another tokenizer or configuration
            (the message names both), or its inputs are longer than the base takes, or shorter than any is.
        UnknownLayerError: It masks a layer that the base does not have, or of another shape, or its
            head lacks a tensor that the task needs.
    """
    manifest = bundle.manifest
    own = base.info
    _check_base(manifest, own)
    if manifest.max_length > base.max_positions:
        raise BaseMismatchError(
            f"task {manifest.task!r} takes up to {manifest.max_length} tokens, "
            f"base {own.name!r} only {base.max_positions}"
        )
    spec = replace(TaskSpec.of(manifest), width=base.hidden_size)
    codec = task_codec(spec, base.tokenizer)
    if manifest.max_length < (shortest := codec.shortest_row):
        raise BaseMismatchError(
            f"task {manifest.task!r} takes up to {manifest.max_length} tokens, but on base {own.name!r} "
            f"a row has {shortest} at least: the special tokens and one of each text"
        )
    linears = maskable_linears(base)
    for member in bundle.members:  # before any mask is decoded: what does not fit costs nothing
        _check_head(manifest, base, member.info)
        _check_layers(member.info, linears)
    weights = weights or ResidentWeights(base.device)
    if isinstance(manifest, SignManifest):
        _check_signs(manifest, base)
    load = _load_signs if isinstance(manifest, SignManifest) else _load_masks
    members = tuple(
        replace(load(member, weights), activation=_activation(manifest, member.info))
        for member in bundle.members
    )
    return LoadedTask(manifest, bundle.digest, spec, codec, base.tokenizer, members, bundle.combine)


def _check_base(manifest: Manifest, own: BaseInfo) -> None:
    """Refuse a mask of another base; say it where the bundle does not hold a base's whole identity."""
    theirs = manifest.base
    if differing := own.differing(theirs):
        digests = [
            f"{part} {theirs.identity[part][:19]}..., not {own.identity[part][:19]}..." for part in differing
        ]
        raise BaseMismatchError(
            f"the mask of task {manifest.task!r} was learned on base {theirs.name!r:.80}, not on base "
            f"{own.name!r}, which has another {' and another '.join(differing)} ({'; '.join(digests)})"
        )
    if unknown := own.identity.keys() - theirs.identity.keys():
        logger.warning(
            "task %s: its bundle is of a release that kept no digest of a base's %s; whether they are those "
            "that it was learned with can't be checked",
            manifest.task,
            " and ".join(sorted(unknown, reverse=True)),
        )


def maskable_linears(base: Base) -> dict[str, nn.Linear]:
    """Return every layer of the base that a mask may apply to, by its name in a bundle."""
    linears = base.blocks.linears(base.encoder)
    return linears if base.pooler is None else linears | {POOLER: base.pooler}


def _load_masks(member: BundleMember, weights: ResidentWeights) -> Member:
    layers = {layer.name: layer for layer in member.info.layers}
    head = {name: torch.from_numpy(tensor.copy()) for name, tensor in member.head.items()}
    of_base = {}
    for name, bits in member.masks.items():
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


def own_tensors(base: Base, layers: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors that a copy has its own values of, beside its weights.

    Args:
        base: The base.
        layers: The layers of signs, by name.
    """
    linears, norms = maskable_linears(base), base.blocks.layer_norms(base.encoder)
    parts = {f"{name}.bias": linears[name].bias for name in layers}
    for name, norm in norms.items():
        parts |= {f"{name}.{part}": tensor for part, tensor in norm.named_parameters()}
    return {name: tuple(one.shape) for name, one in parts.items() if one is not None}


def _check_signs(manifest: SignManifest, base: Base) -> None:
    """Refuse signs that are not of all layers of the blocks, or without their numbers."""
    if not manifest.layers:
        return
    names = {layer.name for layer in manifest.layers}
    blocks = base.blocks.linears(base.encoder)
    if missing := sorted(blocks.keys() - names):
        raise UnknownLayerError(f"task {manifest.task!r} has no signs of layer {missing[0]!r}")
    if beyond := sorted(names - maskable_linears(base).keys()):
        raise UnknownLayerError(f"task {manifest.task!r} has signs of {beyond[0]!r}, no layer of the base")
    found, wanted = {one.name: one.shape for one in manifest.own}, own_tensors(base, names)
    if odd := sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)):
        raise UnknownLayerError(
            f"own tensor {odd[0]!r} of task {manifest.task!r} is {found.get(odd[0])}, on base "
            f"{base.info.name!r} it must be {wanted.get(odd[0])}"
        )
    name, embedding = token_embedding(base.encoder)
    known = {f"{name}.weight": tuple(embedding.get_parameter("weight").shape)}
    for rows in manifest.embeddings:
        if known.get(rows.name) != (rows.columns, rows.width):
            raise UnknownLayerError(
                f"embedding {rows.name!r} of task {manifest.task!r} is {(rows.columns, rows.width)}, on base "
                f"{base.info.name!r} it must be {known.get(rows.name)}"
            )


def _check_layers(info: BitsInfo, linears: Mapping[str, nn.Linear]) -> None:
    """Refuse masks of layers that neither the base nor the head has, or of another shape."""
    head = {tensor.name: tensor.shape for tensor in info.head}
    for layer in info.layers:
        shape = head.get(f"{layer.name}.weight") or tuple(_maskable(layer.name, linears).weight.shape)
        if shape != (layer.rows, layer.columns):
            raise UnknownLayerError(
                f"mask {layer.name!r} is {(layer.rows, layer.columns)}, the layer is {shape}"
            )


def _check_head(manifest: Manifest, base: Base, info: BitsInfo) -> None:
    kind = MODEL_KINDS[manifest.kind]
    width, outputs = base.hidden_size, kind.outputs(manifest.labels)
    wanted: dict[str, tuple[int, ...]] = {}
    if not kind.headless:
        wanted = {f"{CLASSIFIER}.weight": (outputs, width), f"{CLASSIFIER}.bias": (outputs,)}
    signed = isinstance(manifest, SignManifest) and POOLER not in {layer.name for layer in info.layers}
    pools = head_activation(manifest.kind, info) is not None
    if pools and (signed or base.pooler is None or not kind.pooled):
        wanted |= {f"{POOLER}.weight": (width, width), f"{POOLER}.bias": (width,)}
    if (found := {tensor.name: tensor.shape for tensor in info.head}) != wanted:
        raise UnknownLayerError(
            f"on base {base.info.name!r} the head of task {manifest.task!r} must hold {wanted}, "
            f"but it holds {found}"
        )


def _maskable(name: str, linears: Mapping[str, nn.Linear]) -> nn.Linear:
    if name not in linears:
        some = ", ".join(list(linears)[:6])
        raise UnknownLayerError(f"layer {name!r} is not maskable; maskable: {some}, ...")
    return linears[name]
