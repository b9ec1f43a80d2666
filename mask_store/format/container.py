"""Container: the outer half of the format, one JSON document and named tensors in a strict safetensors file.

safetensors allows several ways to write the same contents; a bundle has exactly one, because its digest is
its identity. So the few lines that write the header are here and do not move with a library's version (a test
holds them to what the safetensors package writes). Reading allocates nothing that the header announces before
it is checked against the limits.
"""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mask_store.errors import (
    BundleTooLargeError,
    HeaderError,
    NotABundleError,
    TensorLayoutError,
    TrailingBytesError,
    TruncatedBundleError,
)

METADATA_KEY = "mask_bundle"
MASK_PREFIX = "mask."
HEAD_PREFIX = "head."

Dtype = Literal["U8", "F32"]
_ITEM_SIZES: Mapping[str, int] = {"U8": 1, "F32": 4}
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Limits:
    """Sizes that a reader is willing to take in, in bytes.

    Attributes:
        file: The whole file.
        header: The JSON header with the manifest in it.
        tensor: One mask or head tensor after decoding.
        total: All masks and head tensors after decoding.
    """

    file: int = 1 << 30
    header: int = 1 << 22
    tensor: int = 1 << 26
    total: int = 1 << 30

    def check(self, limit: Literal["file", "header", "tensor", "total"], what: str, size: int) -> None:
        """Refuse `size` bytes of `what` where they are over a limit.

        Raises:
            BundleTooLargeError: Names the limit.
        """
        allowed = getattr(self, limit)
        if size > allowed:
            raise BundleTooLargeError(f"{what}: {size} bytes, over the {limit} limit of {allowed} bytes")


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the header; `begin` and `end` count from the start of the data section."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Container:
    """A file taken apart: the header as it stands, the document in it, the tensors' entries and the data."""

    header: bytes
    document: str
    entries: Mapping[str, TensorEntry]
    data: memoryview

    def tensor(self, name: str) -> memoryview:
        """Return the bytes of one tensor."""
        entry = self.entries[name]
        return self.data[entry.begin : entry.end]


def tensor_order(name: str) -> tuple[bool, str]:
    """Return the sort key of tensors in a file: head tensors, then masks, each by name."""
    return not name.startswith(HEAD_PREFIX), name


def layout(shapes: Iterable[tuple[str, Dtype, tuple[int, ...]]]) -> dict[str, TensorEntry]:
    """Lay out tensors so that they follow each other without holes, in the order of the format."""
    entries: dict[str, TensorEntry] = {}
    begin = 0
    for name, dtype, shape in sorted(shapes, key=lambda tensor: tensor_order(tensor[0])):
        end = begin + _ITEM_SIZES[dtype] * math.prod(shape)
        entries[name] = TensorEntry(dtype, shape, begin, end)
        begin = end
    return entries


def build_header(document: str, entries: Mapping[str, TensorEntry]) -> bytes:
    """Write the header's JSON, padded with spaces so that the data section begins at a multiple of 8."""
    fields: dict[str, Any] = {"__metadata__": {METADATA_KEY: document}}
    for name, entry in entries.items():
        fields[name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.end],
        }
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def join(header: bytes, tensors: Iterable[bytes]) -> bytes:
    """Join the file: length of the header, header, tensors in the order of their entries."""
    return b"".join([_LENGTH.pack(len(header)), header, *tensors])


def check_file(data: bytes, limits: Limits) -> int:
    """Refuse a file that is too large, or too small to say how long its header is.

    Returns:
        Bytes of the header, as the file says.

    Raises:
        BundleTooLargeError: If file or header are over a limit.
        TruncatedBundleError: If the file does not hold the length of its header.
    """
    limits.check("file", "bundle", len(data))
    if len(data) < _LENGTH.size:
        raise TruncatedBundleError(f"bundle: expected at least {_LENGTH.size} bytes, found {len(data)}")
    (length,) = _LENGTH.unpack_from(data)
    limits.check("header", "header", length)
    return int(length)


def read_container(data: bytes, limits: Limits) -> Container:
    """Take a file apart.

    Raises:
        BundleTooLargeError: If file or header are over a limit.
        TruncatedBundleError: If the file ends early.
        TrailingBytesError: If bytes follow the last tensor.
        HeaderError: If the header is not one of safetensors.
        NotABundleError: If it has no mask bundle's document.
        TensorLayoutError: If tensors leave holes, overlap or do not have the sizes of their shapes.
    """
    length = check_file(data, limits)
    start = _LENGTH.size + length
    if len(data) < start:
        raise TruncatedBundleError(f"header: expected {length} bytes, found {len(data) - _LENGTH.size}")
    header = data[_LENGTH.size : start]
    fields = _parse_header(header)
    document = _document(fields.pop("__metadata__", None))
    entries = {name: _entry(name, value) for name, value in fields.items()}
    _check_layout(entries, len(data) - start)
    return Container(header, document, entries, memoryview(data)[start:])


def _parse_header(header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise HeaderError("header: expected a JSON object, found something else")
    try:
        fields = json.loads(header.decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"header: expected JSON, found {type(error).__name__}") from None
    if not isinstance(fields, dict):
        raise HeaderError("header: expected a JSON object, found something else")
    return fields


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise HeaderError("header: a name occurs twice")
    return fields


def _document(metadata: object) -> str:
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        raise NotABundleError(f"expected the metadata key {METADATA_KEY!r}, found none: not a mask bundle")
    document = metadata[METADATA_KEY]
    if not isinstance(document, str) or len(metadata) != 1:
        raise HeaderError(f"metadata: expected one text under {METADATA_KEY!r} and nothing else")
    return document


def _entry(name: str, value: object) -> TensorEntry:
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest} if not rest:
            if all(type(number) is int and number >= 0 for number in [*shape, begin, end]):
                return TensorEntry(dtype, tuple(shape), begin, end)
    raise HeaderError(
        f"tensor {name!r:.80}: expected dtype, shape and two data_offsets, found something else"
    )


def _check_layout(entries: Mapping[str, TensorEntry], available: int) -> None:
    expected = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        what, size = f"tensor {name!r:.80}", entry.end - entry.begin
        if entry.begin != expected:
            kind = "a hole" if entry.begin > expected else "an overlap"
            raise TensorLayoutError(f"{what}: expected to begin at {expected}, found {entry.begin}: {kind}")
        if size < 0:
            raise TensorLayoutError(f"{what}: ends at {entry.end}, before it begins at {entry.begin}")
        wanted = _ITEM_SIZES.get(entry.dtype, 0) * math.prod(entry.shape)
        if entry.dtype in _ITEM_SIZES and wanted != size:
            raise TensorLayoutError(f"{what}: its shape takes {wanted} bytes, its offsets {size}")
        expected = entry.end
    if available < expected:
        raise TruncatedBundleError(f"tensors: expected {expected} bytes, found {available}")
    if available > expected:
        raise TrailingBytesError(f"tensors: expected {expected} bytes, found {available}")
