import os
from pathlib import Path
from uuid import uuid4

import pytest

from mask_store import BundleCache, DigestMismatchError, MaskStore, MissingBundleError
from mask_store.format.bundle import digest_of
from tests.support.bundles import version_bundle
from tests.support.counting import StoreReads

PIECES = [bytes([number]) * 100 for number in range(4)]


def _cache(folder: Path, most: int = 250) -> BundleCache:
    return BundleCache(folder, most)


def _read(cache: BundleCache, data: bytes) -> bytes | None:
    return cache.read(digest_of(data), len(data))


def _file(folder: Path, data: bytes) -> Path:
    return folder / f"{digest_of(data).removeprefix('sha256:')}.safetensors"


def _keep(cache: BundleCache, *pieces: bytes) -> None:
    for data in pieces:
        cache.keep(digest_of(data), data)


def test_what_is_kept_can_be_read(tmp_path: Path) -> None:
    cache = _cache(tmp_path / "new")
    assert _read(cache, PIECES[0]) is None
    _keep(cache, PIECES[0])
    assert _read(cache, PIECES[0]) == PIECES[0]
    assert cache.nbytes == 100


def test_the_least_recently_used_go_out(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    _keep(cache, *PIECES[:2])
    _read(cache, PIECES[0])
    _keep(cache, PIECES[2])
    assert [_read(cache, data) is not None for data in PIECES] == [True, False, True, False]
    assert cache.nbytes == 200
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) == 200


def test_what_is_larger_than_all_of_it_is_not_kept(tmp_path: Path) -> None:
    cache = _cache(tmp_path, 99)
    _keep(cache, PIECES[0])
    assert (_read(cache, PIECES[0]), cache.nbytes) == (None, 0)


def test_an_earlier_process_left_what_is_there(tmp_path: Path) -> None:
    _keep(_cache(tmp_path), *PIECES[:2])
    os.utime(_file(tmp_path, PIECES[0]), (2e9, 2e9))  # used after the other one
    (tmp_path / "notes.txt").write_text("not a copy")
    cache = _cache(tmp_path)
    assert cache.nbytes == 200
    _keep(cache, PIECES[2])
    assert [_read(cache, data) is not None for data in PIECES[:3]] == [True, False, True]
    assert (tmp_path / "notes.txt").exists()


def test_a_smaller_limit_holds_at_the_next_start(tmp_path: Path) -> None:
    _keep(_cache(tmp_path), *PIECES[:2])
    assert _cache(tmp_path, 100).nbytes == 100


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "gone", "link"])
def test_a_copy_that_is_damaged_counts_as_missing(tmp_path: Path, damage: str) -> None:
    cache = _cache(tmp_path / "cache")
    _keep(cache, PIECES[1])
    file = _file(tmp_path / "cache", PIECES[1])
    match damage:
        case "flipped":
            file.write_bytes(b"\x00" + PIECES[1][1:])
        case "cut":
            file.write_bytes(PIECES[1][:-1])
        case "longer":
            file.write_bytes(PIECES[1] + b"more")
        case _:
            file.unlink()
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(PIECES[1])
        file.symlink_to(tmp_path / "elsewhere")
    assert _read(cache, PIECES[1]) is None
    assert cache.nbytes == 0
    _keep(cache, PIECES[1])
    assert _read(cache, PIECES[1]) == PIECES[1]


def test_a_disk_that_takes_nothing_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = _cache(tmp_path / "file" / "folder")
    _keep(cache, *PIECES)
    assert len(caplog.records) == 1
    assert "copies of bundles can't be kept" in caplog.text
    assert _read(cache, PIECES[0]) is None


@pytest.fixture
def far() -> str:
    return f"memory://{uuid4().hex}"


def test_a_bundle_of_a_far_store_is_read_once(
    tmp_path: Path, far: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MaskStore.open(far, create=True).publish(version_bundle("demo", 1))
    store = MaskStore.open(far, cache=BundleCache(tmp_path, 1 << 20))
    version = store.current("demo")
    first = store.load(version)
    reads = StoreReads(monkeypatch)
    assert store.load(version).to_bytes() == first.to_bytes()
    assert store.describe(version) == first.manifest
    assert all("/" not in path for path in reads.paths)  # those of the cache lie in one folder
    _file(tmp_path, first.to_bytes()).write_bytes(b"damaged")
    assert store.load(version).to_bytes() == first.to_bytes()
    assert any("bundles/" in path for path in reads.paths)


def test_a_version_is_verified_where_it_lies(tmp_path: Path, far: str) -> None:
    store = MaskStore.open(far, create=True, cache=BundleCache(tmp_path, 1 << 20))
    store.publish(version_bundle("demo", 1))
    version = store.current("demo")
    store.load(version)
    store._files.replace(
        f"tasks/demo/bundles/{version.digest.removeprefix('sha256:')}.safetensors", b"damaged"
    )
    assert [problem.kind for problem in store.verify()] == [DigestMismatchError.__name__]


def test_a_store_on_this_machine_has_no_copies(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path / "cache", 1 << 20)
    store = MaskStore.open(tmp_path / "store", create=True, cache=cache)
    store.publish(version_bundle("demo", 1))
    store.load("demo")
    assert (store.caches, cache.nbytes) == (False, 0)


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_version_is_described_by_the_start_of_its_bundle(tmp_path: Path, where: str, far: str) -> None:
    store = MaskStore.open(tmp_path / "store" if where == "folder" else far, create=True)
    bundle = version_bundle("demo", 1)
    version = store.publish(bundle)
    assert store.describe(version) == bundle.manifest
    store._files.remove(f"tasks/demo/bundles/{version.digest.removeprefix('sha256:')}.safetensors")
    with pytest.raises(MissingBundleError):
        store.describe(version)
