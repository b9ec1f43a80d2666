"""Known task: what a server has to know of a task to take requests to it, without its masks.

It is checked against the base, encodes inputs and decodes logits, and takes some kilobytes: ten thousand of
them fit where their masks do not.
"""

import logging
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from torch import nn

from mask_store import BaseInfo, BitsInfo, CombineRule, EnsembleManifest, Manifest, SignManifest, TaskManifest
from masking.architectures import row_embeddings
from masking.base import Base, Tokenizer
from masking.errors import BaseMismatchError, UnknownLayerError
from masking.heads import CLASSIFIER, POOLER
from masking.tasks import MODEL_KINDS, TaskCodec, TaskSpec, head_activation, task_codec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownTask:
    """A task without its masks: immutable, its manifest checked against the base.

    Attributes:
        name: Name of the task.
        digest: Digest of the bundle's bytes.
        spec: Kind, labels and input size.
        codec: Encodes its inputs and decodes its logits.
        tokenizer: The base's tokenizer.
        combine: How the answers of several members become one; None where there is one.
        copies: Members, each of which computes every row.
        metric: Name and dev value of the metric that tells how good it is; None where there is none.
        finetuned_bytes: What finetuned copies for it would take.
        ready_bytes: What masks, heads and numbers take in memory, but for what a layout adds.
        text: The manifest as compressed JSON.
    """

    name: str
    digest: str
    spec: TaskSpec
    codec: TaskCodec
    tokenizer: Tokenizer
    combine: CombineRule | None
    copies: int
    metric: tuple[str, float] | None
    finetuned_bytes: int
    ready_bytes: int
    text: bytes = field(repr=False)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest, read anew each time it is asked for: as objects it is large."""
        return Manifest.from_json(zlib.decompress(self.text).decode())

    @property
    def base_checked(self) -> tuple[str, ...]:
        """Parts of the base that are known to be those that the task was learned with."""
        return tuple(self.manifest.base.identity)

    def is_of(self, manifest: Manifest) -> bool:
        """Tell whether this is what is known of a manifest."""
        return zlib.decompress(self.text) == manifest.to_json().encode()

    def shortened(self, max_length: int) -> Self:
        """Return the same task with rows of at most `max_length` tokens, or its own length if that is less.

        Args:
            max_length: At least the codec's `shortest_row`.
        """
        spec = replace(self.spec, max_length=min(max_length, self.spec.max_length))
        return replace(self, spec=spec, codec=task_codec(spec, self.tokenizer))


def know_task(manifest: Manifest, digest: str, base: Base) -> KnownTask:
    """Check a manifest against the base.

    Args:
        manifest: The manifest of a bundle.
        digest: Digest of the bundle's bytes.
        base: The resident base.

    Raises:
        BaseMismatchError: It was learned on another base, or on one with another tokenizer or configuration
            (the message names both), or its inputs are longer than the base takes, or shorter than any is.
        UnknownLayerError: It masks a layer that the base does not have, or of another shape, or its
            head lacks a tensor that the task needs.
    """
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
    for info in manifest.learned.values():
        _check_head(manifest, base, info)
        _check_layers(info, base.maskable_linears)
    if isinstance(manifest, SignManifest):
        _check_signs(manifest, base)
    return KnownTask(
        manifest.task,
        digest,
        spec,
        codec,
        base.tokenizer,
        manifest.combine if isinstance(manifest, EnsembleManifest) else None,
        len(manifest.learned),
        _metric(manifest),
        manifest.finetuned_bytes,
        _ready_bytes(manifest),
        zlib.compress(manifest.to_json().encode()),
    )


def _ready_bytes(manifest: Manifest) -> int:
    """Count the bits of the base's layers, and all numbers; masks of the head are applied to its numbers."""
    total = manifest.head_bytes + (manifest.sign_bytes if isinstance(manifest, SignManifest) else 0)
    for info in manifest.learned.values():
        head = {tensor.name for tensor in info.head}
        total += sum(layer.packed_bytes for layer in info.layers if f"{layer.name}.weight" not in head)
    return total


def _metric(manifest: Manifest) -> tuple[str, float] | None:
    if isinstance(manifest, TaskManifest):
        name: str | None = manifest.metric
    elif manifest.evaluation is not None:
        name = manifest.evaluation.metric
    else:
        name = next(iter(manifest.metrics), None)
    return None if name is None else (name, manifest.metrics[name])


def own_tensors(base: Base, layers: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors that a copy has its own values of, beside its weights.

    Args:
        base: The base.
        layers: The layers of signs, by name.
    """
    linears, norms = base.maskable_linears, base.blocks.layer_norms(base.encoder)
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
    if beyond := sorted(names - base.maskable_linears.keys()):
        raise UnknownLayerError(f"task {manifest.task!r} has signs of {beyond[0]!r}, no layer of the base")
    found, wanted = {one.name: one.shape for one in manifest.own}, own_tensors(base, names)
    if odd := sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)):
        raise UnknownLayerError(
            f"own tensor {odd[0]!r} of task {manifest.task!r} is {found.get(odd[0])}, on base "
            f"{base.info.name!r} it must be {wanted.get(odd[0])}"
        )
    known = {
        f"{name}.weight": tuple(embedding.get_parameter("weight").shape)
        for name, embedding in row_embeddings(base.encoder).items()
    }
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


def _check_base(manifest: Manifest, own: BaseInfo) -> None:
    """Refuse a mask of another base; say it where the bundle does not hold a base's whole identity."""
    theirs = manifest.base
    if differing := own.differing(theirs):
        digests = [
            f"{part} {theirs.identity[part][:19]}..., not {own.identity[part][:19]}..." for part in differing
        ]
        raise BaseMismatchError(
            f"the mask of task {manifest.task!r} was learned on base {theirs.name!r:.80}, not on base "
            f"{own.name!r}, which differs in {' and '.join(differing)} ({'; '.join(digests)})"
        )
    if unknown := own.identity.keys() - theirs.identity.keys():
        logger.warning(
            "task %s: its bundle is of a release that kept no digest of a base's %s; whether they are those "
            "that it was learned with can't be checked",
            manifest.task,
            " and ".join(sorted(unknown, reverse=True)),
        )
