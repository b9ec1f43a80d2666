"""Store of many tasks: few random sets of masks, each under many names, so that it is made in a minute.

The server can't tell: each bundle has a digest of its own.
"""

from collections.abc import Sequence
from pathlib import Path

from lab.random_tasks import random_bundle
from mask_store import Limits, MaskBundle, MaskStore, VersionInfo
from mask_store.format.bundle import digest_of
from mask_store.format.container import build_header, join, read_container
from mask_store.format.manifest import utc_now, write_document
from mask_store.store.records import bundle_path, current_path, record_bytes, record_path
from masking import Base

_ZEROS = 0.05


def make_store(place: Path, base: Base, names: Sequence[str], sets: int) -> None:
    """Make a store with version 1 of each task, unless there is one already.

    Args:
        place: Folder that it is made in.
        base: The encoder.
        names: Of the tasks.
        sets: How many sets of masks there are.
    """
    if place.exists():
        return
    MaskStore.open(place, create=True)
    kinds = [random_bundle(base, "any", _ZEROS, seed, compress=True) for seed in range(sets)]
    for number, name in enumerate(names):
        _add(place, kinds[number % sets], name)


def _add(place: Path, bundle: MaskBundle, name: str) -> None:
    """Write a bundle under a name as the store would, but without waiting for the disk."""
    data = _renamed(bundle, name)
    version = VersionInfo(name, 1, digest_of(data), len(data), utc_now())
    record = record_bytes(version)
    files = {
        bundle_path(name, version.digest): data,
        record_path(name, 1): record,
        current_path(name): record,
    }
    for path, contents in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(contents)


def _renamed(bundle: MaskBundle, name: str) -> bytes:
    """Return the file of the same bundle with another name of its task."""
    tensors = read_container(bundle.to_bytes(), Limits()).tensors
    text = bundle.manifest.model_copy(update={"task": name}).to_json()
    section = bytes(tensors.data)
    document = write_document(digest_of(text.encode() + b"\n" + section), text)
    return join(build_header(document, tensors.entries), section)
