"""A mask bundle: one immutable file with the masks, the head and the manifest of one task.

The normative text of the format is docs/bundle-format.md; what is checked when, and by which error class, is
told there too. A bundle that exists is valid: both ways to get one, `MaskBundle.create` and
`MaskBundle.from_bytes`, check everything. Nothing here knows about stores or models.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mask_store.bits import PackedArray, count_zeros, packed_columns, padding_is_zero
from mask_store.container import (
    HEAD_PREFIX,
    MASK_PREFIX,
    Container,
    Dtype,
    Limits,
    build_header,
    join,
    layout,
    read_container,
)
from mask_store.errors import (
    ChecksumError,
    HeadValueError,
    ManifestError,
    MaskCodingError,
    NonCanonicalError,
    PaddingError,
    TensorSetError,
    TensorShapeError,
    TensorTypeError,
    ZeroCountError,
)
from mask_store.files import LocalFiles
from mask_store.manifest import (
    BitsEncoding,
    HeadTensorInfo,
    LayerInfo,
    Manifest,
    RiceEncoding,
    canonical_json,
)
from mask_store.rice import rice_decode, rice_encode

FloatArray = NDArray[np.float32]
_Scalar = TypeVar("_Scalar", bound=np.generic)


class MaskBundle:
    """Masks, head and manifest of one task; immutable and valid.

    Attributes:
        manifest: What the bundle says about itself.
        masks: By layer name, the packed mask: uint8 [rows, ceil(columns / 8)], read-only. The bit order is
            that of `mask_store.pack_bits`.
        head: By tensor name, float32 of the shape in the manifest, read-only.
    """

    def __init__(
        self,
        manifest: Manifest,
        masks: Mapping[str, PackedArray],
        head: Mapping[str, FloatArray],
        data: bytes,
    ) -> None:
        """Not for callers: use `create` or `from_bytes`, which check what they are given."""
        self.manifest = manifest
        self.masks: Mapping[str, PackedArray] = MappingProxyType({k: _frozen(v) for k, v in masks.items()})
        self.head: Mapping[str, FloatArray] = MappingProxyType({k: _frozen(v) for k, v in head.items()})
        self._data = data

    @classmethod
    def create(
        cls,
        manifest: Manifest,
        masks: Mapping[str, PackedArray],
        head: Mapping[str, FloatArray],
        *,
        compress: bool = True,
    ) -> "MaskBundle":
        """Make a bundle of masks and head tensors.

        Args:
            manifest: Describes all of them; the encodings of its layers are chosen here.
            masks: By layer name, uint8 [rows, ceil(columns / 8)] as `pack_bits` returns it.
            head: By tensor name, float32 of the shape in the manifest.
            compress: Entropy-code each mask that gets smaller by it.

        Raises:
            BundleError: One of its subclasses, if manifest and tensors disagree.
        """
        _check_names(manifest, [MASK_PREFIX + name for name in masks] + [HEAD_PREFIX + name for name in head])
        layers, coded = [], {}
        for info in manifest.layers:
            _check_mask(info, masks[info.name])
            layer, coded[MASK_PREFIX + info.name] = _encode(info, masks[info.name], compress)
            layers.append(layer)
        for tensor in manifest.head:
            _check_head(tensor, head[tensor.name])
        manifest = manifest.model_copy(update={"layers": tuple(layers)})
        tensors = coded | {HEAD_PREFIX + name: array.astype("<f4") for name, array in head.items()}
        return cls(manifest, masks, head, _to_file(manifest, tensors))

    @classmethod
    def from_bytes(cls, data: bytes, *, limits: Limits | None = None) -> "MaskBundle":
        """Read a bundle, checking everything.

        Args:
            data: The bytes of a bundle file.
            limits: What to refuse as too large, before anything is allocated for it.

        Raises:
            BundleError: One of its subclasses, by what is wrong.
        """
        limits = limits or Limits()
        data = bytes(data)
        container = read_container(data, limits)
        checksum, manifest = _read_document(container.document)
        _check_sizes(manifest, limits)
        if checksum != _checksum(manifest, container.data):
            raise ChecksumError("checksum: the contents are not those that were written")
        _check_names(manifest, list(container.entries))
        masks = {info.name: _decode(info, container) for info in manifest.layers}
        head = {info.name: _read_head(info, container) for info in manifest.head}
        shapes = [(name, _dtype(name), entry.shape) for name, entry in container.entries.items()]
        if container.header != build_header(_document(manifest, checksum), layout(shapes)):
            raise NonCanonicalError("header: right contents, but not written in the one way of the format")
        return cls(manifest, masks, head, data)

    def to_bytes(self) -> bytes:
        """The file: a valid safetensors file, the same bytes for the same contents."""
        return self._data

    @cached_property
    def digest(self) -> str:
        """What identifies the bundle: "sha256:" and 64 hex digits over the bytes of the file."""
        return digest_of(self._data)

    def __repr__(self) -> str:
        """Task and digest."""
        return f"MaskBundle(task={self.manifest.task!r}, digest={self.digest!r})"


def digest_of(data: bytes) -> str:
    """The text "sha256:" and 64 hex digits over `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read_bundle(path: str | Path, *, limits: Limits | None = None) -> MaskBundle:
    """Read a bundle file, checking everything.

    Raises:
        OSError: If the file can't be read.
        BundleError: One of its subclasses, if it is not a valid bundle.
    """
    limits = limits or Limits()
    with Path(path).open("rb") as file:
        limits.check("file", "bundle", os.fstat(file.fileno()).st_size)
        return MaskBundle.from_bytes(file.read(limits.file + 1), limits=limits)


def write_bundle(path: str | Path, bundle: MaskBundle) -> None:
    """Write a bundle file; at any instant the path holds the whole new file or what was there before.

    Raises:
        StoreError: If it can't be written: StoreFullError, StoreNotWritableError and so on.
    """
    target = Path(path)
    LocalFiles(target.parent, scratch=".").replace(target.name, bundle.to_bytes())


def _frozen(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    array = array.copy()
    array.setflags(write=False)
    return array


def _encode(info: LayerInfo, packed: PackedArray, compress: bool) -> tuple[LayerInfo, PackedArray]:
    if compress:
        encoding, stream = rice_encode(packed, info.columns)
        if stream.size < info.packed_bytes:
            return info.model_copy(update={"encoding": encoding}), stream
    return info.model_copy(update={"encoding": BitsEncoding()}), packed


def _decode(info: LayerInfo, container: Container) -> PackedArray:
    name = MASK_PREFIX + info.name
    entry, raw = container.entries[name], np.frombuffer(container.tensor(name), np.uint8)
    if entry.dtype != "U8":
        raise TensorTypeError(f"mask {info.name!r}: expected dtype U8, found {entry.dtype}")
    if isinstance(info.encoding, RiceEncoding):
        if entry.shape != (raw.size,):
            raise TensorShapeError(f"mask {info.name!r}: expected one axis, found shape {list(entry.shape)}")
        if raw.size >= info.packed_bytes:
            raise MaskCodingError(
                f"mask {info.name!r}: {raw.size} coded bytes for {info.packed_bytes} bytes of bits"
            )
        packed = rice_decode(raw, info.encoding, info.rows, info.columns)
    else:
        expected = (info.rows, packed_columns(info.columns))
        if entry.shape != expected:
            raise _shape_error("mask", info.name, expected, entry.shape)
        packed = raw.reshape(expected)
    _check_mask(info, packed)
    return packed


def _read_head(info: HeadTensorInfo, container: Container) -> FloatArray:
    entry = container.entries[HEAD_PREFIX + info.name]
    if entry.dtype != "F32":
        raise TensorTypeError(f"head tensor {info.name!r}: expected dtype F32, found {entry.dtype}")
    if entry.shape != info.shape:
        raise _shape_error("head tensor", info.name, info.shape, entry.shape)
    tensor = np.frombuffer(container.tensor(HEAD_PREFIX + info.name), "<f4").astype(np.float32)
    tensor = tensor.reshape(info.shape)
    _check_head(info, tensor)
    return tensor


def _check_names(manifest: Manifest, names: list[str]) -> None:
    expected = {MASK_PREFIX + info.name for info in manifest.layers}
    expected |= {HEAD_PREFIX + info.name for info in manifest.head}
    if missing := sorted(expected.difference(names)):
        raise TensorSetError(f"tensors in the manifest but not in the bundle: {', '.join(missing)}")
    if unexpected := sorted(set(names) - expected):
        raise TensorSetError(f"tensors in the bundle but not in the manifest: {', '.join(unexpected)}")


def _check_mask(info: LayerInfo, packed: PackedArray) -> None:
    expected = (info.rows, packed_columns(info.columns))
    if packed.dtype != np.uint8:
        raise TensorTypeError(f"mask {info.name!r}: expected packed uint8, found {packed.dtype}")
    if packed.shape != expected:
        raise _shape_error("mask", info.name, expected, packed.shape)
    if not padding_is_zero(packed, info.columns):
        raise PaddingError(f"mask {info.name!r}: bits after column {info.columns} of a row are not zero")
    zeros = count_zeros(packed, info.columns)
    if zeros != info.zeros:
        raise ZeroCountError(f"mask {info.name!r}: expected {info.zeros} zeros, found {zeros}")


def _check_head(info: HeadTensorInfo, tensor: FloatArray) -> None:
    if tensor.dtype != np.float32:
        raise TensorTypeError(f"head tensor {info.name!r}: expected float32, found {tensor.dtype}")
    if tensor.shape != info.shape:
        raise _shape_error("head tensor", info.name, info.shape, tensor.shape)
    if not np.isfinite(tensor).all():
        raise HeadValueError(f"head tensor {info.name!r}: expected finite numbers, found NaN or infinity")


def _check_sizes(manifest: Manifest, limits: Limits) -> None:
    for layer in manifest.layers:
        limits.check("tensor", f"mask {layer.name!r}", layer.packed_bytes)
    for tensor in manifest.head:
        limits.check("tensor", f"head tensor {tensor.name!r}", tensor.nbytes)
    limits.check("total", "masks and head", manifest.mask_bytes + manifest.head_bytes)


def _shape_error(what: str, name: str, expected: tuple[int, ...], found: tuple[int, ...]) -> TensorShapeError:
    return TensorShapeError(f"{what} {name!r}: expected shape {list(expected)}, found {list(found)}")


def _dtype(name: str) -> Dtype:
    return "F32" if name.startswith(HEAD_PREFIX) else "U8"


def _to_file(manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    entries = layout((name, _dtype(name), tensor.shape) for name, tensor in tensors.items())
    parts = [tensors[name].tobytes() for name in entries]
    checksum = _checksum(manifest, memoryview(b"".join(parts)))
    return join(build_header(_document(manifest, checksum), entries), parts)


def _checksum(manifest: Manifest, data: memoryview) -> str:
    """Over the canonical manifest, a line feed and the data section."""
    digest = hashlib.sha256(manifest.to_json().encode() + b"\n")
    digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def _document(manifest: Manifest, checksum: str) -> str:
    return f'{{"checksum":"{checksum}","manifest":{manifest.to_json()}}}'


def _read_document(text: str) -> tuple[str, Manifest]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ManifestError("manifest: expected JSON, found something else") from None
    match document:
        case {"checksum": str(checksum), "manifest": manifest, **rest} if not rest:
            try:
                return checksum, Manifest.from_json(canonical_json(manifest))
            except (ValueError, RecursionError):
                raise ManifestError("manifest: expected finite numbers and no deep nesting") from None
    raise ManifestError("manifest: expected an object with checksum and manifest, found something else")
