"""Container: the outer half of the format, one JSON document and named tensors in a strict safetensors file.

safetensors allows several ways to write the same contents; a bundle has exactly one, because its digest is
its identity. So the few lines that write the header are here and do not move with a library's version (a test
holds them to what the safetensors package writes). Reading allocates nothing that the header announces before
it is checked against the limits.
"""

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mask_store.errors import (
    HeaderError,
    NotABundleError,
    TensorLayoutError,
    TensorSetError,
    TrailingBytesError,
    TruncatedBundleError,
)
from mask_store.format.json_text import parse_json
from mask_store.format.limits import Limits

METADATA_KEY = "mask_bundle"
MASK_PREFIX = "mask."
HEAD_PREFIX = "head."
OWN_PREFIX = "own."
SCALE_PREFIX = "scale."
ROW_PREFIX = "row."

Dtype = Literal["U8", "F32"]
_ITEM_SIZES: Mapping[str, int] = {"U8": 1, "F32": 4}
_LENGTH = struct.Struct("<Q")
_TENSOR_NAME = re.compile(
    r"(head|mask|own|scale|row)\.[A-Za-z0-9_.-]{1,203}"
)  # 3 for the member of an ensemble
_MOST_AXES = 8


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the header; `begin` and `end` count from the start of the data section."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Tensors:
    """The tensors of a file: their entries and the data section."""

    entries: Mapping[str, TensorEntry]
    data: memoryview

    def read(self, name: str) -> memoryview:
        """Return the bytes of one tensor."""
        entry = self.entries[name]
        return self.data[entry.begin : entry.end]


@dataclass(frozen=True)
class Container:
    """A file taken apart: the header as it stands, the document in it, and the tensors."""

    header: bytes
    document: str
    tensors: Tensors


def tensor_order(name: str) -> tuple[bool, str]:
    """Return the sort key of tensors in a file: head tensors, then the others, each by name."""
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


def join(header: bytes, data: bytes) -> bytes:
    """Join the file: length of the header, header, data section."""
    return b"".join([_LENGTH.pack(len(header)), header, data])


def read_header(data: bytes, limits: Limits) -> bytes:
    """Return the header of a file, its spaces included.

    Raises:
        BundleTooLargeError: If file or header are over a limit.
        TruncatedBundleError: If the file ends before its header does.
    """
    limits.check("file", "bundle", len(data))
    start, end = _LENGTH.size, header_end(data, limits)
    header = data[start:end]
    if len(data) < end:
        raise TruncatedBundleError(f"header: expected {end - start} bytes, found {len(header)}")
    return header


def header_end(data: bytes, limits: Limits) -> int:
    """Return where the header of a file ends, from its first bytes.

    Raises:
        BundleTooLargeError: If the header is over the limit.
        TruncatedBundleError: If these are too few bytes to tell.
    """
    if len(data) < _LENGTH.size:
        raise TruncatedBundleError(f"bundle: expected at least {_LENGTH.size} bytes, found {len(data)}")
    (length,) = _LENGTH.unpack_from(data)
    limits.check("header", "header", length)
    return int(_LENGTH.size + length)


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
    header = read_header(data, limits)
    start = _LENGTH.size + len(header)
    document, entries = parse_header(header, limits, len(data) - start)
    return Container(header, document, Tensors(entries, memoryview(data)[start:]))


def parse_header(header: bytes, limits: Limits, available: int) -> tuple[str, dict[str, TensorEntry]]:
    """Take a header apart.

    Args:
        header: As `read_header` returns it.
        limits: What to refuse as too large.
        available: Bytes of the data section.

    Returns:
        The document in it, and the tensors.

    Raises:
        BundleError: As `read_container`.
    """
    fields = _parse_header(header, limits)
    document = _document(fields.pop("__metadata__", None))
    limits.check("tensors", "bundle", len(fields), unit="tensors")
    entries = {name: _entry(name, value) for name, value in fields.items()}
    _check_layout(entries, available)
    return document, entries


def _parse_header(header: bytes, limits: Limits) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise HeaderError("header: expected a JSON object, found something else")
    try:
        fields: dict[str, Any] = parse_json(header.decode(), limits, fields=limits.values)
    except UnicodeDecodeError:
        raise HeaderError("header: expected UTF-8, found something else") from None
    except ValueError as error:
        raise HeaderError(f"header: {error}") from None
    return fields


def _document(metadata: object) -> str:
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        raise NotABundleError(f"expected the metadata key {METADATA_KEY!r}, found none: not a mask bundle")
    document = metadata[METADATA_KEY]
    if not isinstance(document, str) or len(metadata) != 1:
        raise HeaderError(f"metadata: expected one text under {METADATA_KEY!r} and nothing else")
    return document


def _entry(name: str, value: object) -> TensorEntry:
    if not _TENSOR_NAME.fullmatch(name):
        raise TensorSetError(f"tensor {name!r:.80}: expected a name that matches {_TENSOR_NAME.pattern}")
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest} if not rest:
            if len(shape) <= _MOST_AXES and all(_is_size(number) for number in (*shape, begin, end)):
                return TensorEntry(dtype, tuple(shape), begin, end)
    raise HeaderError(
        f"tensor {name!r:.80}: expected dtype, shape and two data_offsets, found something else"
    )


def _is_size(number: object) -> bool:
    return type(number) is int and number >= 0


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
