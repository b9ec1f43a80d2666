"""Running many tasks' masks over ONE resident base.

A task's masks are an immutable value handed to each call; nothing about a task is ever stored on the
shared modules, so no call can see another's masks, and a call without masks is refused rather than
answered by the bare base. The base tensors are read, never written. Which forms of which masks stay in
memory is decided elsewhere (the server's cache); how a masked linear layer is computed is decided here.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mask_store import Manifest, MaskBundle, unpack_bits
from masking.base import Base
from masking.batch import batch_logits
from masking.binarize import apply_mask
from masking.errors import BaseMismatchError, UnknownLayerError
from masking.heads import CLASSIFIER, POOLER, has_pooler, head_logits
from masking.layers import find_linear
from masking.tasks import Features, TaskCodec, TaskSpec, task_codec
from masking.tasks.predictions import Floats

MaskForm = Literal["packed", "unpacked"]


class LayerMasks(Protocol):
    """One task's masks in some form, able to apply a masked linear layer."""

    @property
    def form(self) -> MaskForm:
        """Name of the form."""

    @property
    def nbytes(self) -> int:
        """Bytes that the masks take in this form."""

    def linear(self, name: str, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Inputs @ (W * M)^T + bias; a layer without a mask is applied as it is.

        Args:
            name: Name of the layer.
            inputs: float32 [..., columns].
            weight: The unmasked weight, float32 [rows, columns]; not written to.
            bias: float32 [rows] or None.

        Returns:
            float32 [..., rows].
        """


@dataclass(frozen=True)
class UnpackedMasks:
    """Masks ready for execution: one boolean per weight.

    Attributes:
        tensors: By layer name, boolean [rows, columns].
    """

    tensors: Mapping[str, Tensor]

    form: MaskForm = "unpacked"

    @property
    def nbytes(self) -> int:
        """Bytes of the boolean tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def linear(self, name: str, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `LayerMasks.linear`."""
        mask = self.tensors.get(name)
        return F.linear(inputs, weight if mask is None else apply_mask(weight, mask), bias)


@dataclass(frozen=True)
class PackedMasks:
    """Masks at one bit per weight, expanded one layer at a time when applied.

    Attributes:
        tensors: By layer name, uint8 [rows, ceil(columns / 8)] in the bundle's bit order.
        columns: By layer name, the number of columns.
    """

    tensors: Mapping[str, Tensor]
    columns: Mapping[str, int]

    form: MaskForm = "packed"

    @classmethod
    def of(cls, bundle: MaskBundle, device: torch.device) -> Self:
        """The masks of a bundle, copied to `device`."""
        tensors = {name: torch.from_numpy(bits.copy()).to(device) for name, bits in bundle.masks.items()}
        return cls(tensors, {layer.name: layer.columns for layer in bundle.manifest.layers})

    @property
    def nbytes(self) -> int:
        """Bytes of the packed bits."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def unpack(self) -> UnpackedMasks:
        """The same masks, one boolean per weight."""
        return UnpackedMasks({name: self._expand(name) for name in self.tensors})

    def linear(self, name: str, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `LayerMasks.linear`."""
        masked = apply_mask(weight, self._expand(name)) if name in self.tensors else weight
        return F.linear(inputs, masked, bias)

    def _expand(self, name: str) -> Tensor:
        return expand_bits(self.tensors[name], self.columns[name])


def expand_bits(packed: Tensor, columns: int) -> Tensor:
    """Unpacks bits: uint8 [rows, ceil(columns / 8)] to boolean [rows, columns]."""
    if packed.device.type == "cpu":
        return torch.from_numpy(unpack_bits(packed.numpy(), columns))
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits_by_byte = (packed.unsqueeze(-1) >> shifts) & 1
    return bits_by_byte.flatten(1)[:, :columns].bool()


@dataclass(frozen=True)
class LoadedTask:
    """A task ready to be served: immutable, checked whole against the base.

    Attributes:
        manifest: The bundle's manifest.
        digest: Digest of the bundle's bytes.
        spec: Kind, labels and input size.
        codec: Encodes its inputs and decodes its logits.
        head: The head tensors that came with the mask, float32, on the base's device.
        masks: The masks at one bit per weight.
    """

    manifest: Manifest
    digest: str
    spec: TaskSpec
    codec: TaskCodec
    head: Mapping[str, Tensor]
    masks: PackedMasks

    @property
    def head_nbytes(self) -> int:
        """Bytes of the head tensors."""
        return sum(tensor.nbytes for tensor in self.head.values())


def load_task(bundle: MaskBundle, base: Base) -> LoadedTask:
    """Checks a bundle against the base and brings its tensors to the base's device.

    Raises:
        BaseMismatchError: It was learned on another base; the message names both.
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
    head = {name: torch.from_numpy(t.copy()).to(base.device) for name, t in bundle.head.items()}
    _check_head(manifest, base, head)
    for layer in manifest.layers:
        _check_layer(layer.name, (layer.rows, layer.columns), base, head)
    spec = TaskSpec.of(manifest)
    codec = task_codec(spec, base.tokenizer)
    return LoadedTask(manifest, bundle.digest, spec, codec, head, PackedMasks.of(bundle, base.device))


def _check_head(manifest: Manifest, base: Base, head: Mapping[str, Tensor]) -> None:
    width, outputs = base.hidden_size, TaskSpec.of(manifest).outputs
    wanted = {f"{CLASSIFIER}.weight": (outputs, width), f"{CLASSIFIER}.bias": (outputs,)}
    if has_pooler(manifest.kind) and base.pooler is None:
        wanted |= {f"{POOLER}.weight": (width, width), f"{POOLER}.bias": (width,)}
    found = {name: tuple(tensor.shape) for name, tensor in head.items()}
    if found != wanted:
        raise UnknownLayerError(
            f"the head of task {manifest.task!r} holds {found}, but on base {base.info.name!r} "
            f"it must hold {wanted}"
        )
    if manifest.max_length > base.max_positions:
        raise BaseMismatchError(
            f"task {manifest.task!r} takes up to {manifest.max_length} tokens, "
            f"base {base.info.name!r} only {base.max_positions}"
        )


def _check_layer(name: str, shape: tuple[int, int], base: Base, head: Mapping[str, Tensor]) -> None:
    if f"{name}.weight" in head:
        weight = head[f"{name}.weight"]
    elif name == POOLER and base.pooler is not None:
        weight = base.pooler.weight
    else:
        _maskable(name, base)
        weight = find_linear(base.encoder, name).weight
    if tuple(weight.shape) != shape:
        raise UnknownLayerError(f"mask {name!r} is {shape}, the layer is {tuple(weight.shape)}")


def _maskable(name: str, base: Base) -> None:
    names = base.maskable_layers
    if name not in names:
        raise UnknownLayerError(f"layer {name!r} is not maskable; maskable: {', '.join(names[:6])}, ...")


_active_masks: ContextVar[LayerMasks] = ContextVar("active_masks")


@contextmanager
def _using(masks: LayerMasks) -> Iterator[None]:
    token = _active_masks.set(masks)
    try:
        yield
    finally:
        _active_masks.reset(token)


class _RoutedLinear(nn.Module):
    """A linear layer of the base that asks the masks of the running call how to be applied."""

    def __init__(self, name: str, linear: nn.Linear) -> None:
        super().__init__()
        self.name = name
        self.weight = linear.weight
        self.bias = linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        return _active_masks.get().linear(self.name, inputs, self.weight, self.bias)


class MaskedEncoder:
    """The resident base, able to compute any loaded task. Call it from one thread at a time."""

    def __init__(self, base: Base) -> None:
        """Routes the maskable layers of `base` (its tensors are shared, its modules left alone)."""
        self.base = base
        self._encoder = base.share_encoder()
        for name in base.maskable_layers:
            self._encoder.set_submodule(name, _RoutedLinear(name, find_linear(base.encoder, name)))

    def logits(self, task: LoadedTask, masks: LayerMasks, batch: dict[str, Tensor]) -> Tensor:
        """Logits of a collated batch of one task.

        Args:
            task: The task, for its head.
            masks: The task's masks, in any form.
            batch: The encoder's keyword arguments, int64 [rows, tokens] each.

        Returns:
            float32 [rows, labels], [rows, 1] (multiple choice) or [rows, tokens, labels].
        """
        with torch.inference_mode(), _using(masks):
            hidden = self._encoder(**batch).last_hidden_state
            return head_logits(
                task.spec.kind,
                hidden,
                lambda inputs: self._head_linear(POOLER, task, masks, inputs),
                lambda inputs: self._head_linear(CLASSIFIER, task, masks, inputs),
                nn.Identity(),
            )

    def predict(self, task: LoadedTask, masks: LayerMasks, features: Sequence[Features]) -> list[Floats]:
        """Logits of each input, all computed as one batch; see `batch_logits`."""
        return batch_logits(
            lambda batch: self.logits(task, masks, batch),
            task.codec,
            features,
            tokenizer=self.base.tokenizer,
            device=self.base.device,
        )

    def _head_linear(self, name: str, task: LoadedTask, masks: LayerMasks, inputs: Tensor) -> Tensor:
        if f"{name}.weight" in task.head:
            return masks.linear(name, inputs, task.head[f"{name}.weight"], task.head[f"{name}.bias"])
        pooler = self.base.pooler
        assert pooler is not None  # checked by load_task
        return masks.linear(name, inputs, pooler.weight, pooler.bias)
