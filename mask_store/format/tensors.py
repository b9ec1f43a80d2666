"""Bundle tensors: between packed masks and head values in memory and the tensors of a file.

Tensors go by the name that a manifest's layer or head tensor has, after the member's key where a bundle holds
several members ("00.pooler.dense"). Everything that can be wrong with a tensor is refused here; what is
checked when, and by which error class, stands in docs/bundle-format.md.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from mask_store.errors import (
    HeadValueError,
    MaskCodingError,
    PaddingError,
    TensorSetError,
    TensorShapeError,
    TensorTypeError,
    ZeroCountError,
)
from mask_store.format.bits import PackedArray, count_zeros, packed_columns, padding_is_zero
from mask_store.format.container import HEAD_PREFIX, MASK_PREFIX, Container, Dtype, Limits
from mask_store.format.manifest import Manifest
from mask_store.format.mask_info import BitsEncoding, HeadTensorInfo, LayerInfo, RiceEncoding
from mask_store.format.rice import rice_decode, rice_encode

FloatArray = NDArray[np.float32]


def layers_of(manifest: Manifest) -> dict[str, LayerInfo]:
    """Return the masked layers of all members by the names of their tensors."""
    return {key + layer.name: layer for key, info in manifest.learned.items() for layer in info.layers}


def head_of(manifest: Manifest) -> dict[str, HeadTensorInfo]:
    """Return the head tensors of all members by the names of their tensors."""
    return {key + tensor.name: tensor for key, info in manifest.learned.items() for tensor in info.head}


def dtype_of(name: str) -> Dtype:
    """Return the dtype that a tensor of this name has in a file."""
    return "F32" if name.startswith(HEAD_PREFIX) else "U8"


def check_names(manifest: Manifest, names: Iterable[str]) -> None:
    """Refuse tensors that are not exactly those of the manifest.

    Raises:
        TensorSetError: Names those that lack or are too many.
    """
    found = set(names)
    expected = {MASK_PREFIX + name for name in layers_of(manifest)}
    expected |= {HEAD_PREFIX + name for name in head_of(manifest)}
    if missing := sorted(expected - found):
        raise TensorSetError(f"tensors in the manifest but not in the bundle: {', '.join(missing)}")
    if unexpected := sorted(found - expected):
        raise TensorSetError(f"tensors in the bundle but not in the manifest: {', '.join(unexpected)}")


def check_sizes(manifest: Manifest, limits: Limits) -> None:
    """Refuse what takes too much memory, before anything is allocated for it.

    Raises:
        BundleTooLargeError: Names the tensor and the limit.
    """
    for name, layer in layers_of(manifest).items():
        limits.check("tensor", f"mask {name!r}", layer.packed_bytes)
    for name, tensor in head_of(manifest).items():
        limits.check("tensor", f"head tensor {name!r}", tensor.nbytes)
    limits.check("total", "masks and head", manifest.mask_bytes + manifest.head_bytes)


def check_tensors(
    manifest: Manifest, masks: Mapping[str, PackedArray], head: Mapping[str, FloatArray]
) -> None:
    """Refuse masks and head tensors that are not what the manifest says of them.

    Raises:
        BundleError: One of its subclasses, by what is wrong.
    """
    for name, layer in layers_of(manifest).items():
        _check_mask(name, layer, masks[name])
    for name, tensor in head_of(manifest).items():
        _check_head(name, tensor, head[name])


def encode_mask(layer: LayerInfo, packed: PackedArray, compress: bool) -> tuple[LayerInfo, PackedArray]:
    """Make a mask's tensor, entropy-coded where that is wanted and shorter, and the layer that says so."""
    if compress:
        encoding, stream = rice_encode(packed, layer.columns)
        if stream.size < layer.packed_bytes:
            return layer.model_copy(update={"encoding": encoding}), stream
    return layer.model_copy(update={"encoding": BitsEncoding()}), packed


def read_mask(name: str, layer: LayerInfo, container: Container) -> PackedArray:
    """Decode the tensor of a mask to packed bits.

    Raises:
        BundleError: One of its subclasses, by what is wrong.
    """
    entry = container.entries[MASK_PREFIX + name]
    raw = np.frombuffer(container.tensor(MASK_PREFIX + name), np.uint8)
    if entry.dtype != "U8":
        raise TensorTypeError(f"mask {name!r}: expected dtype U8, found {entry.dtype}")
    if not isinstance(layer.encoding, RiceEncoding):
        expected = (layer.rows, packed_columns(layer.columns))
        if entry.shape != expected:
            raise _shape_error("mask", name, expected, entry.shape)
        return raw.reshape(expected)
    if entry.shape != (raw.size,):
        raise TensorShapeError(f"mask {name!r}: expected one axis, found shape {list(entry.shape)}")
    if raw.size >= layer.packed_bytes:
        raise MaskCodingError(f"mask {name!r}: {raw.size} coded bytes for {layer.packed_bytes} bytes of bits")
    return rice_decode(raw, layer.encoding, layer.rows, layer.columns)


def read_head(name: str, info: HeadTensorInfo, container: Container) -> FloatArray:
    """Read a head tensor.

    Raises:
        BundleError: One of its subclasses, by what is wrong.
    """
    entry = container.entries[HEAD_PREFIX + name]
    if entry.dtype != "F32":
        raise TensorTypeError(f"head tensor {name!r}: expected dtype F32, found {entry.dtype}")
    if entry.shape != info.shape:
        raise _shape_error("head tensor", name, info.shape, entry.shape)
    tensor = np.frombuffer(container.tensor(HEAD_PREFIX + name), "<f4").astype(np.float32)
    return tensor.reshape(info.shape)


def _check_mask(name: str, layer: LayerInfo, packed: PackedArray) -> None:
    expected = (layer.rows, packed_columns(layer.columns))
    if packed.dtype != np.uint8:
        raise TensorTypeError(f"mask {name!r}: expected packed uint8, found {packed.dtype}")
    if packed.shape != expected:
        raise _shape_error("mask", name, expected, packed.shape)
    if not padding_is_zero(packed, layer.columns):
        raise PaddingError(f"mask {name!r}: bits after column {layer.columns} of a row are not zero")
    zeros = count_zeros(packed, layer.columns)
    if zeros != layer.zeros:
        raise ZeroCountError(f"mask {name!r}: expected {layer.zeros} zeros, found {zeros}")


def _check_head(name: str, info: HeadTensorInfo, tensor: FloatArray) -> None:
    if tensor.dtype != np.float32:
        raise TensorTypeError(f"head tensor {name!r}: expected float32, found {tensor.dtype}")
    if tensor.shape != info.shape:
        raise _shape_error("head tensor", name, info.shape, tensor.shape)
    if not np.isfinite(tensor).all():
        raise HeadValueError(f"head tensor {name!r}: expected finite numbers, found NaN or infinity")


def _shape_error(what: str, name: str, expected: tuple[int, ...], found: tuple[int, ...]) -> TensorShapeError:
    return TensorShapeError(f"{what} {name!r}: expected shape {list(expected)}, found {list(found)}")
