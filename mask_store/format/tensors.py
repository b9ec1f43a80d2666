"""Bundle tensors: between packed masks and numbers in memory and the tensors of a file.

Masks go by the name that a manifest's layer has, after the member's key where a bundle holds several
members ("00.pooler.dense"); tensors of numbers by their names in the file ("head.00.classifier.bias").
Everything that can be wrong with a tensor is refused here; what is checked when, and by which error class,
stands in docs/bundle-format.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mask_store.errors import (
    HeadValueError,
    MaskCodingError,
    PaddingError,
    ScaleValueError,
    TensorSetError,
    TensorShapeError,
    TensorTypeError,
    ZeroCountError,
)
from mask_store.format.bits import PackedArray, count_zeros, packed_columns, padding_is_zero
from mask_store.format.container import (
    HEAD_PREFIX,
    MASK_PREFIX,
    OWN_PREFIX,
    ROW_PREFIX,
    SCALE_PREFIX,
    Dtype,
    TensorEntry,
    Tensors,
)
from mask_store.format.limits import Limits
from mask_store.format.manifest import Manifest, SignManifest
from mask_store.format.mask_info import (
    BitsEncoding,
    ChangedRows,
    HeadTensorInfo,
    LayerBits,
    RiceEncoding,
)
from mask_store.format.rice import check_rice, decode_rice, rice_encode

FloatArray = NDArray[np.float32]
Decode = Callable[[PackedArray, RiceEncoding, int, int], PackedArray]
"""Takes what `decode_rice` takes, and returns the same."""
_KINDS = {
    HEAD_PREFIX: "head tensor",
    OWN_PREFIX: "own tensor",
    SCALE_PREFIX: "scales of",
    ROW_PREFIX: "rows of",
}


def layers_of(manifest: Manifest) -> dict[str, LayerBits]:
    """Return all that has bits by the names of their tensors: layers of all members, and changed rows."""
    layers = {key + layer.name: layer for key, info in manifest.learned.items() for layer in info.layers}
    return layers | {rows.name: rows for rows in rows_of(manifest)}


def rows_of(manifest: Manifest) -> tuple[ChangedRows, ...]:
    """Return the embeddings of which a task has rows of its own."""
    return manifest.embeddings if isinstance(manifest, SignManifest) else ()


def floats_of(manifest: Manifest) -> dict[str, HeadTensorInfo]:
    """Return the tensors of numbers of all members by their names in the file."""
    heads = {key: info.head for key, info in manifest.learned.items()}
    floats = {HEAD_PREFIX + key + tensor.name: tensor for key, head in heads.items() for tensor in head}
    if isinstance(manifest, SignManifest):
        floats |= {OWN_PREFIX + tensor.name: tensor for tensor in manifest.own}
        floats |= {SCALE_PREFIX + tensor.name: tensor for tensor in manifest.scales}
        floats |= {ROW_PREFIX + rows.name: rows.values for rows in manifest.embeddings}
    return floats


def dtype_of(name: str) -> Dtype:
    """Return the dtype that a tensor of this name has in a file."""
    return "U8" if name.startswith(MASK_PREFIX) else "F32"


def check_names(manifest: Manifest, names: Iterable[str]) -> None:
    """Refuse tensors that are not exactly those of the manifest.

    Raises:
        TensorSetError: Names those that lack or are too many.
    """
    found = set(names)
    expected = {MASK_PREFIX + name for name in layers_of(manifest)} | floats_of(manifest).keys()
    if missing := sorted(expected - found):
        raise TensorSetError(f"tensors in the manifest but not in the bundle: {', '.join(missing)}")
    if unexpected := sorted(found - expected):
        raise TensorSetError(f"tensors in the bundle but not in the manifest: {', '.join(unexpected)}")


def check_sizes(manifest: Manifest, limits: Limits) -> None:
    """Refuse too many tensors, and what takes too much memory once it is decoded.

    Raises:
        BundleTooLargeError: Names the tensor and the limit.
    """
    layers, floats = layers_of(manifest), floats_of(manifest)
    limits.check("tensors", "manifest", len(layers) + len(floats), unit="tensors")
    for name, layer in layers.items():
        limits.check("tensor", f"mask {name!r}", layer.packed_bytes)
    for name, tensor in floats.items():
        limits.check("tensor", _called(name), tensor.nbytes)
    total = sum(layer.packed_bytes for layer in layers.values()) + sum(one.nbytes for one in floats.values())
    limits.check("total", "masks and head", total)


def check_entries(manifest: Manifest, entries: Mapping[str, TensorEntry]) -> None:
    """Refuse tensors whose dtypes or shapes are not those that the manifest gives them.

    Raises:
        TensorTypeError: If a dtype is another one.
        TensorShapeError: If a shape is another one.
        MaskCodingError: If a coded mask is not shorter than its bits.
    """
    for name, layer in layers_of(manifest).items():
        entry = entries[MASK_PREFIX + name]
        _check_dtype(f"mask {name!r}", "U8", entry.dtype)
        if not isinstance(layer.encoding, RiceEncoding):
            _check_shape(f"mask {name!r}", (layer.rows, packed_columns(layer.columns)), entry.shape)
        elif len(entry.shape) != 1:
            raise TensorShapeError(f"mask {name!r}: expected one axis, found shape {list(entry.shape)}")
        elif entry.shape[0] >= layer.packed_bytes:
            raise MaskCodingError(
                f"mask {name!r}: {entry.shape[0]} coded bytes for {layer.packed_bytes} bytes of bits"
            )
    for name, tensor in floats_of(manifest).items():
        entry = entries[name]
        _check_dtype(_called(name), "F32", entry.dtype)
        _check_shape(_called(name), tensor.shape, entry.shape)


def check_contents(manifest: Manifest, tensors: Tensors) -> None:
    """Refuse tensors whose bytes are not what the manifest says of them. Decodes nothing.

    Args:
        manifest: The manifest.
        tensors: Of names, dtypes and shapes that were checked.

    Raises:
        BundleError: One of its subclasses, by what is wrong.
    """
    for name, layer in layers_of(manifest).items():
        stream = _read(name, tensors)
        if isinstance(layer.encoding, RiceEncoding):  # the manifest's own checks hold count against zeros
            check_rice(stream, layer.encoding, layer.bits)
        else:
            _check_bits(name, layer, stream.reshape(layer.rows, packed_columns(layer.columns)))
    for name, tensor in floats_of(manifest).items():
        _check_values(name, read_floats(name, tensor, tensors))


def check_arrays(
    manifest: Manifest, masks: Mapping[str, PackedArray], floats: Mapping[str, FloatArray]
) -> None:
    """Refuse packed masks and numbers in memory that are not what the manifest says of them.

    Raises:
        BundleError: One of its subclasses, by what is wrong.
    """
    for name, layer in layers_of(manifest).items():
        _check_dtype(f"mask {name!r}", "uint8", str(masks[name].dtype))
        _check_shape(f"mask {name!r}", (layer.rows, packed_columns(layer.columns)), masks[name].shape)
        _check_bits(name, layer, masks[name])
    for name, tensor in floats_of(manifest).items():
        _check_dtype(_called(name), "float32", str(floats[name].dtype))
        _check_shape(_called(name), tensor.shape, floats[name].shape)
        _check_values(name, floats[name])


def encode_mask(layer: LayerBits, packed: PackedArray, compress: bool) -> tuple[LayerBits, PackedArray]:
    """Make a mask's tensor, entropy-coded where that is wanted and shorter, and the layer that says so."""
    if compress:
        encoding, stream = rice_encode(packed, layer.columns)
        if stream.size < layer.packed_bytes:
            return layer.model_copy(update={"encoding": encoding}), stream
    return layer.model_copy(update={"encoding": BitsEncoding()}), packed


class CodedMasks(Mapping[str, PackedArray]):
    """The masks of a bundle's member by layer name, each decoded anew whenever it is asked for.

    So a bundle takes the memory of its file, whatever that announces.
    """

    def __init__(
        self, key: str, layers: Iterable[LayerBits], tensors: Tensors, decode: Decode = decode_rice
    ) -> None:
        """Take over tensors whose contents were checked.

        Args:
            key: What stands before the layers' names in the names of their tensors.
            layers: The member's layers.
            tensors: The tensors of the bundle.
            decode: Decodes masks that are entropy-coded.
        """
        self._key, self._tensors, self._decode = key, tensors, decode
        self._layers = {layer.name: layer for layer in layers}

    def decoded_by(self, decode: Decode) -> "CodedMasks":
        """Return the same masks, decoded by another function."""
        return CodedMasks(self._key, self._layers.values(), self._tensors, decode)

    def __getitem__(self, name: str) -> PackedArray:
        """Return a mask: uint8 [rows, ceil(columns / 8)], read-only."""
        layer, stream = self._layers[name], _read(self._key + name, self._tensors)
        if isinstance(layer.encoding, RiceEncoding):
            packed = self._decode(stream, layer.encoding, layer.rows, layer.columns)
        else:
            packed = stream.reshape(layer.rows, packed_columns(layer.columns)).copy()
        packed.setflags(write=False)
        return packed

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the layers."""
        return iter(self._layers)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._layers)


def read_floats(name: str, info: HeadTensorInfo, tensors: Tensors) -> FloatArray:
    """Return a tensor of numbers, read-only: a view of the file where that is in the machine's order."""
    values = np.frombuffer(tensors.read(name), "<f4")
    return values.astype(np.float32, copy=False).reshape(info.shape)


def _read(name: str, tensors: Tensors) -> PackedArray:
    return np.frombuffer(tensors.read(MASK_PREFIX + name), np.uint8)


def _check_dtype(what: str, expected: str, found: str) -> None:
    if found != expected:
        raise TensorTypeError(f"{what}: expected {expected}, found {found:.20}")


def _check_shape(what: str, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
    if found != expected:
        raise TensorShapeError(f"{what}: expected shape {list(expected)}, found {list(found)}")


def _check_bits(name: str, layer: LayerBits, packed: PackedArray) -> None:
    if not padding_is_zero(packed, layer.columns):
        raise PaddingError(f"mask {name!r}: bits after column {layer.columns} of a row are not zero")
    zeros = count_zeros(packed, layer.columns)
    if zeros != layer.zeros:
        raise ZeroCountError(f"mask {name!r}: expected {layer.zeros} zeros, found {zeros}")


def _check_values(name: str, tensor: FloatArray) -> None:
    if not np.isfinite(tensor).all():
        raise HeadValueError(f"{_called(name)}: expected finite numbers, found NaN or infinity")
    if name.startswith(SCALE_PREFIX) and np.signbit(tensor).any():
        raise ScaleValueError(f"{_called(name)}: expected numbers from 0, found one below, or minus zero")


def _called(name: str) -> str:
    """Say which tensor of numbers this is, for messages."""
    prefix, _, own = name.partition(".")
    return f"{_KINDS[f'{prefix}.']} {own!r}"
