"""Loaded task: made from a bundle, checked whole against the base, immutable, ready to be computed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mask_store import BundleMember, CombineRule, Manifest, MaskBundle, unpack_bits
from masking.architectures import block_linears
from masking.base import Base
from masking.binarize import apply_mask
from masking.errors import BaseMismatchError, UnknownLayerError
from masking.heads import CLASSIFIER, POOLER
from masking.inference.task_masks import TaskMasks
from masking.kernels import Kernels
from masking.tasks import MODEL_KINDS, TaskCodec, TaskSpec, shortest_row, task_codec


@dataclass(frozen=True)
class Member:
    """One mask of a task over the base, with the head that it was learned with.

    Attributes:
        masks: Masks of the base's layers, one bit per weight.
        head: Tensors of the head that are not part of the base, float32, masks applied.
    """

    masks: TaskMasks
    head: Mapping[str, Tensor]

    @property
    def head_nbytes(self) -> int:
        """Bytes of the head tensors."""
        return sum(tensor.nbytes for tensor in self.head.values())


@dataclass(frozen=True)
class LoadedTask:
    """A task ready to be served: immutable, checked whole against the base.

    Attributes:
        manifest: The bundle's manifest.
        digest: Digest of the bundle's bytes.
        spec: Kind, labels and input size.
        codec: Encodes its inputs and decodes its logits.
        members: Its masks, at least one.
        combine: How the answers of several members become one; None where there is one.
    """

    manifest: Manifest
    digest: str
    spec: TaskSpec
    codec: TaskCodec
    members: tuple[Member, ...]
    combine: CombineRule | None = None

    @property
    def masks_nbytes(self) -> int:
        """Bytes of the masks of all members."""
        return sum(member.masks.nbytes for member in self.members)

    @property
    def head_nbytes(self) -> int:
        """Bytes of the head tensors of all members."""
        return sum(member.head_nbytes for member in self.members)


def load_task(bundle: MaskBundle, base: Base, *, kernels: Kernels = "auto") -> LoadedTask:
    """Check a bundle against the base and bring its tensors to the base's device.

    Args:
        bundle: The bundle.
        base: The resident base.
        kernels: With "off" the task can be computed without a kernel, and with none only.

    Raises:
        BaseMismatchError: It was learned on another base, the message names both; or its inputs are longer
            than the base takes, or shorter than any is.
        UnknownLayerError: It masks a layer that the base does not have, or of another shape, or its
            head lacks a tensor that the task needs.
    """
    manifest = bundle.manifest
    own, theirs = base.info, manifest.base
    if own.fingerprint != theirs.fingerprint:
        raise BaseMismatchError(
            f"the mask of task {manifest.task!r} was learned on base {theirs.name!r} "
            f"({theirs.fingerprint[:19]}...), not on base {own.name!r} ({own.fingerprint[:19]}...)"
        )
    if manifest.max_length > base.max_positions:
        raise BaseMismatchError(
            f"task {manifest.task!r} takes up to {manifest.max_length} tokens, "
            f"base {own.name!r} only {base.max_positions}"
        )
    spec = TaskSpec.of(manifest)
    if manifest.max_length < (shortest := shortest_row(spec, base.tokenizer)):
        raise BaseMismatchError(
            f"task {manifest.task!r} takes up to {manifest.max_length} tokens, but on base {own.name!r} "
            f"a row has {shortest} at least: the special tokens and one of each text"
        )
    linears = maskable_linears(base)
    members = tuple(_load_member(member, manifest, base, linears, kernels) for member in bundle.members)
    return LoadedTask(
        manifest, bundle.digest, spec, task_codec(spec, base.tokenizer), members, bundle.combine
    )


def maskable_linears(base: Base) -> dict[str, nn.Linear]:
    """Return every layer of the base that a mask may apply to, by its name in a bundle."""
    linears = block_linears(base.encoder, base.info.architecture, range(base.num_blocks))
    return linears if base.pooler is None else linears | {POOLER: base.pooler}


def _load_member(
    member: BundleMember,
    manifest: Manifest,
    base: Base,
    linears: Mapping[str, nn.Linear],
    kernels: Kernels,
) -> Member:
    layers = {layer.name: layer for layer in member.info.layers}
    _check_head(manifest, base, {name: tensor.shape for name, tensor in member.head.items()})
    head = {name: torch.from_numpy(tensor.copy()) for name, tensor in member.head.items()}
    of_base = {}
    for name, bits in member.masks.items():
        layer, own = layers[name], head.get(f"{name}.weight")
        weight = _maskable(name, linears).weight if own is None else own
        if tuple(weight.shape) != (layer.rows, layer.columns):
            raise UnknownLayerError(
                f"mask {name!r} is {(layer.rows, layer.columns)}, the layer is {tuple(weight.shape)}"
            )
        if own is None:
            of_base[name] = bits
        else:
            head[f"{name}.weight"] = apply_mask(own, torch.from_numpy(unpack_bits(bits, layer.columns)))
    on_device = {name: tensor.to(base.device) for name, tensor in head.items()}
    return Member(TaskMasks.of(of_base, layers, base.device, kernels), on_device)


def _check_head(manifest: Manifest, base: Base, found: Mapping[str, tuple[int, ...]]) -> None:
    kind = MODEL_KINDS[manifest.kind]
    width, outputs = base.hidden_size, kind.outputs(manifest.labels)
    wanted = {f"{CLASSIFIER}.weight": (outputs, width), f"{CLASSIFIER}.bias": (outputs,)}
    if kind.pooled and base.pooler is None:
        wanted |= {f"{POOLER}.weight": (width, width), f"{POOLER}.bias": (width,)}
    if found != wanted:
        raise UnknownLayerError(
            f"the head of task {manifest.task!r} holds {found}, but on base {base.info.name!r} "
            f"it must hold {wanted}"
        )


def _maskable(name: str, linears: Mapping[str, nn.Linear]) -> nn.Linear:
    if name not in linears:
        some = ", ".join(list(linears)[:6])
        raise UnknownLayerError(f"layer {name!r} is not maskable; maskable: {some}, ...")
    return linears[name]
