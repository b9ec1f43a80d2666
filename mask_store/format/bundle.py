"""Mask bundle: one immutable file with the masks, the heads and the manifest of one task.

A task has one member (a learned set of masks with its head, or the signs of a finetuned copy), an ensemble
has several. The normative text of
the format is docs/bundle-format.md; what is checked when, and by which error class, stands there too. A
bundle that exists is valid: every way to get one, `MaskBundle.create`, `create_ensemble`, `create_signs` and
`from_bytes`, checks everything.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from numpy.typing import NDArray

from mask_store.errors import ChecksumError, NonCanonicalError, TensorSetError
from mask_store.files import LocalFiles
from mask_store.format.bits import PackedArray
from mask_store.format.container import (
    HEAD_PREFIX,
    MASK_PREFIX,
    OWN_PREFIX,
    ROW_PREFIX,
    SCALE_PREFIX,
    TensorEntry,
    Tensors,
    build_header,
    header_end,
    join,
    layout,
    parse_header,
    read_container,
    read_header,
)
from mask_store.format.evaluation_info import EvaluationInfo
from mask_store.format.json_text import check_json
from mask_store.format.limits import Limits
from mask_store.format.manifest import (
    CombineRule,
    EnsembleManifest,
    Manifest,
    SignManifest,
    TaskManifest,
    read_document,
    write_document,
)
from mask_store.format.mask_info import BitsInfo
from mask_store.format.tensors import (
    CodedMasks,
    FloatArray,
    check_arrays,
    check_contents,
    check_entries,
    check_names,
    check_sizes,
    dtype_of,
    encode_mask,
    floats_of,
    layers_of,
    read_floats,
    rows_of,
)

Masks = Mapping[str, PackedArray]
Head = Mapping[str, FloatArray]


@dataclass(frozen=True)
class BundleMember:
    """One learned set of masks in a bundle, with its head.

    Attributes:
        info: What the manifest says about it.
        masks: By layer name, the packed mask: uint8 [rows, ceil(columns / 8)], read-only, decoded anew each
            time it is asked for. The bit order is that of `mask_store.pack_bits`.
        head: By tensor name, float32 of the shape in `info`, read-only.
        scales: Of signs, by layer name: float32 [rows], read-only. Empty for masks.
        own: Of signs, by the name of the base's tensor, read-only. Empty for masks.
        rows: Of signs, by the name of the base's embedding, the values of the rows that the task has of its
            own: float32 [changed, width], read-only.
        changed: Likewise which rows they are, one bit for each row of the embedding, as masks.
    """

    info: BitsInfo
    masks: CodedMasks
    head: Head
    scales: Head
    own: Head
    rows: Head
    changed: Masks


class MaskBundle:
    """Masks, heads and manifest of one task; immutable and valid.

    Attributes:
        manifest: What the bundle says about itself.
        members: The learned sets of masks: one, or for an ensemble several, in the order of the manifest.
    """

    def __init__(self, manifest: Manifest, tensors: Tensors, data: bytes, digest: str | None = None) -> None:
        """Not for callers: use `create` and its like or `from_bytes`, which check what they are given.

        Tensors of all members go by the names of `tensors.layers_of` and `tensors.floats_of`.
        """
        self.manifest = manifest
        floats = {name: read_floats(name, info, tensors) for name, info in floats_of(manifest).items()}
        scales, own, rows = (_named(floats, prefix) for prefix in (SCALE_PREFIX, OWN_PREFIX, ROW_PREFIX))
        changed = CodedMasks("", rows_of(manifest), tensors)
        self.members = tuple(
            BundleMember(
                info,
                CodedMasks(key, info.layers, tensors),
                MappingProxyType({part.name: floats[HEAD_PREFIX + key + part.name] for part in info.head}),
                scales,
                own,
                rows,
                changed,
            )
            for key, info in manifest.learned.items()
        )
        self._data = data
        self._known_digest = digest

    @classmethod
    def create(cls, manifest: TaskManifest, masks: Masks, head: Head, *, compress: bool = True) -> Self:
        """Make a bundle of masks and head tensors.

        Args:
            manifest: Describes all of them; the encodings of its layers are chosen here.
            masks: By layer name, uint8 [rows, ceil(columns / 8)] as `pack_bits` returns it.
            head: By tensor name, float32 of the shape in the manifest.
            compress: Entropy-code each mask that gets smaller by it.

        Raises:
            BundleError: One of its subclasses, if manifest and tensors disagree.
        """
        return cls._create_learned(manifest, [(masks, head)], compress)

    @classmethod
    def create_signs(
        cls,
        manifest: SignManifest,
        signs: Masks,
        *,
        scales: Head,
        own: Head,
        head: Head,
        rows: Head | None = None,
    ) -> Self:
        """Make a bundle of a finetuned copy's signs.

        Args:
            manifest: Describes all of them; the encodings of its bits are chosen here.
            signs: By layer name, uint8 [rows, ceil(columns / 8)] as `pack_bits` returns it; and by the name
                of each embedding which of its rows are changed, likewise.
            scales: By layer name, float32 [rows], none below 0.
            own: By the name of the base's tensor, float32 of the shape in the manifest.
            head: By tensor name, likewise.
            rows: By the name of the base's embedding, float32 [changed, width].

        Raises:
            BundleError: One of its subclasses, if manifest and tensors disagree.
        """
        parts = {HEAD_PREFIX: head, OWN_PREFIX: own, SCALE_PREFIX: scales, ROW_PREFIX: rows or {}}
        floats = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
        return cls._create(manifest, signs, floats, compress=True)

    @classmethod
    def create_ensemble(
        cls, manifest: EnsembleManifest, members: Sequence[tuple[Masks, Head]], *, compress: bool = True
    ) -> Self:
        """Make the bundle of an ensemble; `mask_store.ensemble_of` makes one of the members' bundles.

        Args:
            manifest: Describes all members; the encodings of their layers are chosen here.
            members: Masks and head tensors of each member, as `create` takes them.
            compress: Entropy-code each mask that gets smaller by it.

        Raises:
            BundleError: One of its subclasses, if manifest and tensors disagree.
        """
        return cls._create_learned(manifest, members, compress)

    @classmethod
    def _create_learned(
        cls, manifest: TaskManifest | EnsembleManifest, members: Sequence[tuple[Masks, Head]], compress: bool
    ) -> Self:
        keys = manifest.learned
        if len(keys) != len(members):
            raise TensorSetError(f"expected tensors of {len(keys)} members, found {len(members)}")
        by_key = list(zip(keys, members, strict=True))
        masks = {key + name: packed for key, (own, _) in by_key for name, packed in own.items()}
        floats = {
            HEAD_PREFIX + key + name: tensor for key, (_, own) in by_key for name, tensor in own.items()
        }
        return cls._create(manifest, masks, floats, compress=compress)

    @classmethod
    def _create(cls, manifest: Manifest, masks: Masks, floats: Head, *, compress: bool) -> Self:
        """Make a bundle of masks by `layers_of` their names, and of numbers by their names in the file."""
        check_names(manifest, [*(MASK_PREFIX + name for name in masks), *floats])
        check_arrays(manifest, masks, floats)
        coded = {
            name: encode_mask(layer, masks[name], compress) for name, layer in layers_of(manifest).items()
        }
        manifest = manifest.with_layers(
            [
                tuple(coded[key + layer.name][0] for layer in info.layers)
                for key, info in manifest.learned.items()
            ]
        )
        if isinstance(manifest, SignManifest):
            rows = tuple(coded[one.name][0] for one in manifest.embeddings)
            manifest = manifest.model_copy(update={"embeddings": rows})
        arrays: dict[str, NDArray[Any]] = {MASK_PREFIX + name: stream for name, (_, stream) in coded.items()}
        arrays |= {name: tensor.astype("<f4") for name, tensor in floats.items()}
        return cls(manifest, *_to_file(manifest, arrays))

    @classmethod
    def from_bytes(cls, data: bytes, *, limits: Limits | None = None, digest: str | None = None) -> Self:
        """Read a bundle, checking everything: first what the header says, then the bytes of the tensors.

        No mask is decoded for that. It takes about the time in which the file is hashed, and little memory
        beyond the file and what its header says.

        Args:
            data: The bytes of a bundle file.
            limits: What to refuse as too large.
            digest: `digest_of` these bytes, where the caller has verified it. The bundle keeps it, and the
                checksum, which says less, is not computed.

        Raises:
            BundleError: One of its subclasses, by what is wrong.
        """
        limits = limits or Limits()
        data = bytes(data)
        container = read_container(data, limits)
        tensors = container.tensors
        checksum, text, manifest = _checked(container.header, container.document, tensors.entries, limits)
        if digest is None and checksum != _checksum(text, tensors.data):
            raise ChecksumError("checksum: the contents are not those that were written")
        check_contents(manifest, tensors)
        return cls(manifest, tensors, data, digest)

    def check_limits(self, limits: Limits) -> None:
        """Refuse a bundle that is larger than `from_bytes` would take in.

        Raises:
            BundleTooLargeError: Names the limit.
        """
        check_json(read_header(self._data, limits).decode(), limits)
        check_sizes(self.manifest, limits)

    def evaluated(self, metrics: Mapping[str, float], evaluation: EvaluationInfo) -> Self:
        """Return a bundle of the same contents, with an evaluation on a dev set.

        Args:
            metrics: Dev metrics, which are added to its own.
            evaluation: How it answered the dev set.

        Raises:
            ValidationError: They don't go with the task; a ValueError.
        """
        fields = dict(self.manifest) | {"evaluation": evaluation}
        manifest = type(self.manifest)(**fields | {"metrics": {**self.manifest.metrics, **metrics}})
        tensors = read_container(self._data, Limits(file=len(self._data))).tensors
        return type(self)(manifest, *_joined(manifest, tensors.entries, bytes(tensors.data)))

    @property
    def combine(self) -> CombineRule | None:
        """Rule that combines the answers of an ensemble's members; None for a task with one member."""
        return self.manifest.combine if isinstance(self.manifest, EnsembleManifest) else None

    def to_bytes(self) -> bytes:
        """Return the file: a valid safetensors file, the same bytes for the same contents."""
        return self._data

    @cached_property
    def digest(self) -> str:
        """Identity of the bundle: "sha256:" and 64 hex digits over the bytes of the file."""
        return self._known_digest or digest_of(self._data)

    def __repr__(self) -> str:
        """Return task and digest."""
        return f"MaskBundle(task={self.manifest.task!r}, digest={self.digest!r})"


def read_manifest(start: bytes, size: int, *, limits: Limits | None = None) -> Manifest:
    """Read the manifest of a bundle file from its start.

    Of what the header says all is checked but that it is written in the one way of the format, which
    `MaskBundle.from_bytes` does.

    Args:
        start: The first bytes of the file, to the end of the header at least.
        size: Bytes of the whole file.
        limits: What to refuse as too large.

    Raises:
        BundleError: One of its subclasses, by what is wrong.
    """
    limits = limits or Limits()
    limits.check("file", "bundle", size)
    header = read_header(start, limits)
    document, entries = parse_header(header, limits, size - header_end(start, limits))
    return _checked_document(document, entries, limits)[-1]


def digest_of(data: bytes) -> str:
    """Return the text "sha256:" and 64 hex digits over `data`."""
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


def _checked(
    header: bytes, document: str, entries: Mapping[str, TensorEntry], limits: Limits
) -> tuple[str, str, Manifest]:
    """Check all that a header says; return the checksum, the manifest's JSON, and the manifest."""
    checksum, manifest = _checked_document(document, entries, limits)
    text = manifest.to_json()
    shapes = [(name, dtype_of(name), entry.shape) for name, entry in entries.items()]
    if header != build_header(write_document(checksum, text), layout(shapes)):
        raise NonCanonicalError("header: right contents, but not written in the one way of the format")
    return checksum, text, manifest


def _checked_document(
    document: str, entries: Mapping[str, TensorEntry], limits: Limits
) -> tuple[str, Manifest]:
    checksum, manifest = read_document(document, limits)
    check_sizes(manifest, limits)
    check_names(manifest, entries)
    check_entries(manifest, entries)
    return checksum, manifest


def _named(floats: Head, prefix: str) -> Head:
    """Return the tensors whose names begin so, by the rest of their names."""
    found = {name.removeprefix(prefix): floats[name] for name in floats if name.startswith(prefix)}
    return MappingProxyType(found)


def _to_file(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensors, bytes]:
    """Write the file of a bundle; return its tensors too."""
    entries = layout((name, dtype_of(name), array.shape) for name, array in arrays.items())
    return _joined(manifest, entries, b"".join(arrays[name].tobytes() for name in entries))


def _joined(manifest: Manifest, entries: Mapping[str, TensorEntry], section: bytes) -> tuple[Tensors, bytes]:
    """Write the file of a bundle from the bytes of its tensors; return its tensors too."""
    text = manifest.to_json()
    checksum = _checksum(text, memoryview(section))
    data = join(build_header(write_document(checksum, text), entries), section)
    return Tensors(entries, memoryview(data)[len(data) - len(section) :]), data


def _checksum(manifest: str, data: memoryview) -> str:
    """Hash the manifest's canonical JSON, a line feed and the data section."""
    digest = hashlib.sha256(manifest.encode() + b"\n")
    digest.update(data)
    return f"sha256:{digest.hexdigest()}"
