import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mask_store import (
    CurrentVersionError,
    DigestMismatchError,
    InvalidTaskNameError,
    Limits,
    MaskBundle,
    MaskStore,
    MaskStoreError,
    MissingBundleError,
    NoEarlierVersionError,
    NotAFileError,
    RecordError,
    StoreFormatError,
    StoreFullError,
    StoreNotFoundError,
    StoreNotWritableError,
    StoreUnavailableError,
    UnknownTaskError,
    UnknownVersionError,
)
from mask_store.errors import BundleTooLargeError
from mask_store.format.bundle import digest_of
from mask_store.store.records import MAX_NUMBER, bundle_path, current_path, record_bytes, record_path
from tests.support.bundles import version_bundle
from tests.support.counting import StoreReads

PUBLISHER = """
import sys
from mask_store import MaskStore
from tests.support.bundles import version_bundle

store, first = MaskStore.open(sys.argv[1]), int(sys.argv[2])
bundles = [version_bundle(seed=seed) for seed in range(first, first + 20)]
print("ready", flush=True)
sys.stdin.readline()
for bundle in bundles:
    print(store.publish(bundle).number, bundle.digest)
"""


class TestOpen:
    def test_missing_store(self, place: str) -> None:
        with pytest.raises(StoreNotFoundError, match=r"no mask store at .*store"):
            MaskStore.open(place)

    def test_created_store_is_found_again(self, place: str) -> None:
        MaskStore.open(place, create=True).publish(version_bundle())
        assert MaskStore.open(place, create=True).tasks() == ("demo",)
        assert MaskStore.open(place).tasks() == ("demo",)

    def test_path_or_text_or_file_url(self, folder: Path) -> None:
        for place in (folder, str(folder), f"file://{folder}"):
            assert str(MaskStore.open(place)) == str(folder)

    def test_layout_of_the_future(self, folder: Path) -> None:
        (folder / "store.json").write_text('{"format":"mask-store","version":2}\n')
        with pytest.raises(StoreFormatError, match=r'expected {"format":"mask-store","version":1} in'):
            MaskStore.open(folder)

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreNotWritableError, match=r"can't be written to: .*: Not a directory"):
            MaskStore.open(tmp_path / "file" / "store", create=True)
        with pytest.raises(StoreNotFoundError):
            MaskStore.open(tmp_path / "file" / "store")

    def test_protocol_that_fsspec_does_not_know(self) -> None:
        with pytest.raises(StoreUnavailableError, match="can't open a store at nosuch://x"):
            MaskStore.open("nosuch://x")


class TestCheckWritable:
    def test_leaves_nothing(self, store: MaskStore) -> None:
        store.check_writable()
        assert store._files.list(".tmp") == []
        assert store.verify() == ()

    @pytest.mark.parametrize("method", ["create", "remove"])
    def test_who_may_not_write_is_told_and_who_may_not_remove_can_publish(
        self, store: MaskStore, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        def refuse(*_: Any) -> None:
            raise StoreNotWritableError("refused")

        monkeypatch.setattr(type(store._files), method, refuse)
        with nullcontext() if method == "remove" else pytest.raises(StoreNotWritableError):
            store.check_writable()


class TestPublish:
    def test_numbers_and_current(self, store: MaskStore) -> None:
        bundles = [version_bundle(seed=seed) for seed in range(3)]
        versions = [store.publish(bundle) for bundle in bundles]
        assert [version.number for version in versions] == [1, 2, 3]
        assert [version.digest for version in versions] == [bundle.digest for bundle in bundles]
        assert versions[0].size == len(bundles[0].to_bytes())
        assert store.versions("demo") == tuple(versions)
        assert store.current("demo") == versions[2]

    def test_what_is_current_already_gets_no_new_number(self, store: MaskStore) -> None:
        first = store.publish(version_bundle())
        assert store.publish(version_bundle()) == first
        assert store.versions("demo") == (first,)

    def test_what_was_current_before_gets_a_new_number(self, store: MaskStore) -> None:
        for seed in (0, 1, 0):
            version = store.publish(version_bundle(seed=seed))
        assert version.number == 3
        assert store.versions("demo")[0].digest == version.digest

    def test_over_the_limits_of_the_store(self, place: str) -> None:
        store = MaskStore.open(place, create=True, limits=Limits(tensor=4))
        with pytest.raises(BundleTooLargeError, match="over the tensor limit of 4 bytes"):
            store.publish(version_bundle())
        assert store.tasks() == ()

    def test_heals_a_damaged_bundle(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        version = store.publish(version_bundle())
        (path,) = folder.glob("tasks/demo/bundles/*")
        path.write_bytes(b"damaged")
        assert store.publish(version_bundle()) == version
        assert store.verify() == ()

    def test_heals_a_damaged_pointer(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        (folder / "tasks/demo/current.json").write_text("damaged")
        assert store.publish(version_bundle()).number == 2
        assert store.verify() == ()

    def test_not_writable(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        (folder / "tasks").touch()
        with pytest.raises(StoreNotWritableError, match="can't be written to"):
            store.publish(version_bundle())

    def test_not_allowed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = MaskStore.open(folder)
        first = store.publish(version_bundle())

        original = os.open

        def refuse(path: str, flags: int, *arguments: Any, **keywords: Any) -> int:
            if flags & os.O_CREAT:
                raise PermissionError(errno.EACCES, "Permission denied")
            return original(path, flags, *arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(StoreNotWritableError, match="Permission denied"):
                store.publish(version_bundle(seed=1))
        assert store.versions("demo") == (first,)

    def test_disk_full(self, folder: Path, full_disk: Callable[[int], Any]) -> None:
        store = MaskStore.open(folder)
        first = store.publish(version_bundle(seed=0))
        with full_disk(500), pytest.raises(StoreFullError, match="full"):
            store.publish(version_bundle(seed=1))
        assert store.versions("demo") == (first,)
        assert store.verify() == ()
        assert list((folder / ".tmp").iterdir()) == []
        assert store.publish(version_bundle(seed=1)).number == 2

    def test_two_processes_at_once(self, folder: Path) -> None:
        publishers = [
            subprocess.Popen(
                [sys.executable, "-c", PUBLISHER, str(folder), first_seed],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for first_seed in ("0", "20")
        ]
        for publisher in publishers:
            assert publisher.stdout
            assert publisher.stdout.readline() == "ready\n"
        for publisher in publishers:
            assert publisher.stdin
            publisher.stdin.write("go\n")
            publisher.stdin.flush()
        reported = [
            line.split() for publisher in publishers for line in publisher.communicate()[0].splitlines()
        ]
        store = MaskStore.open(folder)
        assert {int(number): digest for number, digest in reported} == {
            version.number: version.digest for version in store.versions("demo")
        }
        assert sorted(int(number) for number, _ in reported) == list(range(1, 41))
        assert store.current("demo").number == 40
        assert store.verify() == ()

    def test_many_threads_at_once(self, store: MaskStore) -> None:
        with ThreadPoolExecutor(8) as pool:
            versions = list(pool.map(lambda seed: store.publish(version_bundle(seed=seed)), range(24)))
        assert sorted(version.number for version in versions) == list(range(1, 25))
        assert {version.number: version for version in versions} == {
            version.number: version for version in store.versions("demo")
        }
        assert store.verify() == ()


class TestLoad:
    def test_current_and_by_number(self, store: MaskStore) -> None:
        for seed in range(2):
            store.publish(version_bundle(seed=seed))
        assert store.load("demo").digest == version_bundle(seed=1).digest
        assert store.load("demo", 1).digest == version_bundle(seed=0).digest

    def test_of_a_known_version_only_the_bundle_is_read_and_it_is_hashed_once(
        self, store: MaskStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        versions = [store.publish(version_bundle(seed=seed)) for seed in range(2)]
        reads = StoreReads(monkeypatch)
        assert [store.load(version).digest for version in versions] == [v.digest for v in versions]
        assert reads.paths == [bundle_path(v.task, v.digest) for v in versions]
        assert reads.hashes == 2

    def test_a_rollback_hands_over_the_bundle_that_it_checked(self, store: MaskStore) -> None:
        first, _ = (store.publish(version_bundle(seed=seed)) for seed in range(2))
        done = store.rollback_and_load("demo")
        assert done.version == first == store.current("demo")
        assert done.bundle.digest == first.digest

    def test_verify_checks_the_checksum_that_the_digest_makes_needless(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        data = bytearray(version_bundle().to_bytes())
        place = data.index(b'checksum\\":\\"sha256:') + 20
        data[place] = ord("0") if data[place] != ord("0") else ord("1")
        forged = replace(store.current("demo"), digest=digest_of(bytes(data)))
        (folder / bundle_path("demo", forged.digest)).write_bytes(data)
        for path in (current_path("demo"), record_path("demo", 1)):
            (folder / path).write_bytes(record_bytes(forged))
        assert store.load("demo").digest == forged.digest
        assert [problem.kind for problem in store.verify()] == ["ChecksumError", "LeftoverError"]

    def test_unknown(self, store: MaskStore) -> None:
        store.publish(version_bundle())
        with pytest.raises(UnknownTaskError, match="no task 'other' in"):
            store.load("other")
        for number in (0, -1, 2, MAX_NUMBER):
            with pytest.raises(UnknownVersionError, match=f"has no version {number}, it has 1"):
                store.load("demo", number)
        for number in (MAX_NUMBER + 1, 10**30, 10**5000):
            with pytest.raises(UnknownVersionError, match="has no version above 99999999, it has 1"):
                store.load("demo", number)

    @pytest.mark.parametrize("name", ["", "../demo", "demo/..", "Demo", "a" * 65, "demo\n", "/etc", "."])
    def test_names_that_no_task_can_have(self, store: MaskStore, name: str) -> None:
        for call in (store.load, store.current, store.versions, store.rollback, store.delete, store.verify):
            with pytest.raises(InvalidTaskNameError, match="expected 1 to 64 of"):
                call(name)

    def test_missing_bundle(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        shutil.rmtree(folder / "tasks/demo/bundles")
        with pytest.raises(MissingBundleError, match="task 'demo' version 1"):
            store.load("demo")

    @pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
    def test_damaged_bundle(self, folder: Path, damage: Callable[[bytes], bytes]) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        (path,) = folder.glob("tasks/demo/bundles/*")
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(DigestMismatchError, match=r"expected .* bytes of digest sha256:.* found"):
            store.load("demo")

    def test_bundle_over_the_limit_is_not_read(self, place: str) -> None:
        MaskStore.open(place, create=True).publish(version_bundle())
        with pytest.raises(BundleTooLargeError, match="over the file limit of 10 bytes"):
            MaskStore.open(place, limits=Limits(file=10)).load("demo")

    def test_task_folder_that_was_renamed(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        (folder / "tasks/demo").rename(folder / "tasks/other")
        with pytest.raises(RecordError, match="expected a record of it, found one of 'demo'"):
            store.load("other")


class TestSnapshot:
    def test_empty(self, store: MaskStore) -> None:
        assert store.snapshot().current == {}
        assert store.tasks() == ()

    def test_current_versions_by_name(self, store: MaskStore) -> None:
        for task in ("b", "a"):
            store.publish(version_bundle(task))
        last = store.publish(version_bundle("b", seed=1))
        snapshot = store.snapshot()
        assert list(snapshot.current) == ["a", "b"]
        assert snapshot.current["b"] == last
        assert snapshot.problems == ()

    def test_a_broken_task_hides_no_other(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        for task in ("a", "b", "c"):
            store.publish(version_bundle(task))
        (folder / "tasks/b/current.json").write_text("{")
        (folder / "tasks/.DS_Store").touch()
        snapshot = store.snapshot()
        assert list(snapshot.current) == ["a", "c"]
        assert [(problem.task, problem.kind) for problem in snapshot.problems] == [("b", "RecordError")]
        assert store.tasks() == ("a", "b", "c")

    def test_reads_no_bundle(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        shutil.rmtree(folder / "tasks/demo/bundles")
        assert list(store.snapshot().current) == ["demo"]

    def test_a_store_that_went_away_is_not_an_empty_one(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        shutil.rmtree(folder)
        with pytest.raises(StoreNotFoundError):
            store.snapshot()
        with pytest.raises(StoreNotFoundError):
            store.publish(version_bundle())
        assert not folder.exists()


class TestRollback:
    def test_to_the_version_before(self, store: MaskStore) -> None:
        versions = [store.publish(version_bundle(seed=seed)) for seed in range(3)]
        assert store.rollback("demo") == versions[1]
        assert store.rollback("demo") == versions[0]
        assert store.current("demo") == versions[0]
        assert store.versions("demo") == tuple(versions)
        with pytest.raises(NoEarlierVersionError, match="task 'demo' version 1: no earlier version"):
            store.rollback("demo")

    def test_to_a_number_and_forward_again(self, store: MaskStore) -> None:
        versions = [store.publish(version_bundle(seed=seed)) for seed in range(3)]
        assert store.rollback("demo", 1) == versions[0]
        assert store.rollback("demo", 3) == versions[2]
        assert store.load("demo").digest == versions[2].digest

    def test_skips_versions_with_the_same_contents(self, store: MaskStore) -> None:
        first = store.publish(version_bundle(seed=0))
        store.publish(version_bundle(seed=1))
        store.rollback("demo")
        store.publish(version_bundle(seed=1))
        assert store.rollback("demo") == first

    def test_next_number_after_it(self, store: MaskStore) -> None:
        for seed in range(2):
            store.publish(version_bundle(seed=seed))
        store.rollback("demo")
        assert store.publish(version_bundle(seed=2)).number == 3

    def test_never_to_a_broken_version(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        versions = [store.publish(version_bundle(seed=seed)) for seed in range(2)]
        digest = versions[0].digest.removeprefix("sha256:")
        (folder / f"tasks/demo/bundles/{digest}.safetensors").write_bytes(b"")
        with pytest.raises(DigestMismatchError):
            store.rollback("demo")
        assert store.current("demo") == versions[1]

    def test_a_damaged_record_stops_no_other_version(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        versions = [store.publish(version_bundle(seed=seed)) for seed in range(4)]
        (folder / record_path("demo", 1)).write_bytes(bytes(40))
        (folder / record_path("demo", 3)).unlink()
        os.mkfifo(folder / record_path("demo", 3))
        assert store.versions("demo") == (versions[1], versions[3])
        problems = store.history("demo").problems
        assert [(p.number, p.kind) for p in problems] == [(1, "RecordError"), (3, "NotAFileError")]
        done = store.rollback_and_load("demo")
        assert (done.version, done.before, done.problems) == (versions[1], versions[3], problems)
        with pytest.raises(NoEarlierVersionError):
            store.rollback("demo")
        with pytest.raises(RecordError):
            store.rollback("demo", 1)

    @pytest.mark.parametrize("damage", ["bytes", "link", "gone"])
    def test_a_damaged_bundle_is_passed_over(self, folder: Path, tmp_path: Path, damage: str) -> None:
        store = MaskStore.open(folder)
        versions = [store.publish(version_bundle(seed=seed)) for seed in range(3)]
        bundle = folder / bundle_path("demo", versions[1].digest)
        bundle.rename(tmp_path / "elsewhere")
        if damage == "bytes":
            bundle.write_bytes(b"damaged")
        elif damage == "link":
            bundle.symlink_to(tmp_path / "elsewhere")
        done = store.rollback_and_load("demo")
        assert done.version == versions[0]
        assert [problem.number for problem in done.problems] == [2]

    def test_a_damaged_pointer_asks_for_a_number(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        versions = [store.publish(version_bundle(seed=seed)) for seed in range(2)]
        (folder / current_path("demo")).write_text("{")
        with pytest.raises(RecordError, match="say to which version to roll back"):
            store.rollback("demo")
        assert store.versions("demo") == tuple(versions)
        assert store.load("demo", 1).digest == versions[0].digest
        assert store.rollback_and_load("demo", 1).before is None
        assert store.current("demo") == versions[0]


class TestDelete:
    def test_a_version(self, store: MaskStore) -> None:
        versions = [store.publish(version_bundle(seed=seed)) for seed in range(3)]
        store.delete("demo", 2)
        assert store.versions("demo") == (versions[0], versions[2])
        with pytest.raises(UnknownVersionError, match="no version 2, it has 1, 3"):
            store.load("demo", 2)
        assert store.verify() == ()

    def test_its_number_is_not_used_again(self, store: MaskStore) -> None:
        for seed in range(3):
            store.publish(version_bundle(seed=seed))
        store.rollback("demo", 1)
        store.delete("demo", 3)
        assert store.publish(version_bundle(seed=3)).number == 4

    def test_a_bundle_that_another_version_needs_stays(self, store: MaskStore) -> None:
        for seed in (0, 1, 0, 2):
            store.publish(version_bundle(seed=seed))
        store.delete("demo", 1)
        assert store.load("demo", 3).digest == version_bundle(seed=0).digest

    def test_a_bundle_that_no_version_needs_goes(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        for seed in range(2):
            store.publish(version_bundle(seed=seed))
        store.delete("demo", 1)
        (path,) = folder.glob("tasks/demo/bundles/*")
        assert path.stem == store.current("demo").digest.removeprefix("sha256:")

    def test_not_the_current_version(self, store: MaskStore) -> None:
        store.publish(version_bundle())
        with pytest.raises(CurrentVersionError, match="roll back first, or delete the whole task"):
            store.delete("demo", 1)

    def test_a_version_with_a_broken_record(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        for seed in range(2):
            store.publish(version_bundle(seed=seed))
        (folder / "tasks/demo/versions/00000001.json").write_text("{")
        assert [problem.number for problem in store.history("demo").problems] == [1]
        store.delete("demo", 1)
        assert store.history("demo").problems == ()
        assert [version.number for version in store.versions("demo")] == [2]

    def test_a_task(self, store: MaskStore) -> None:
        for task in ("demo", "demo2"):
            store.publish(version_bundle(task))
        store.delete("demo")
        assert store.tasks() == ("demo2",)
        with pytest.raises(UnknownTaskError):
            store.delete("demo")
        assert store.publish(version_bundle()).number == 1

    def test_leaves_no_files_of_a_task(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        store.delete("demo")
        assert list((folder / "tasks").iterdir()) == []

    def test_unknown(self, store: MaskStore) -> None:
        store.publish(version_bundle())
        with pytest.raises(UnknownTaskError):
            store.delete("other")
        with pytest.raises(UnknownVersionError):
            store.delete("demo", 2)


class TestVerify:
    def test_a_sound_store(self, store: MaskStore) -> None:
        for task in ("a", "b"):
            for seed in range(2):
                store.publish(version_bundle(task, seed))
        assert store.verify() == ()
        assert store.verify("a") == ()

    def test_unknown_task(self, store: MaskStore) -> None:
        with pytest.raises(UnknownTaskError):
            store.verify("demo")

    @pytest.mark.parametrize(
        ("path", "contents", "number", "kind"),
        [
            ("versions/00000001.json", b"{", 1, "RecordError"),
            ("versions/00000002.json", b"{", None, "RecordError"),
            ("current.json", b"{", None, "RecordError"),
            ("current.json", None, None, "UnknownTaskError"),
            ("bundles/{}.safetensors", b"", 1, "DigestMismatchError"),
            ("bundles/{}.safetensors", None, 1, "MissingBundleError"),
        ],
    )
    def test_damage(
        self, store: MaskStore, place: str, path: str, contents: bytes | None, number: int | None, kind: str
    ) -> None:
        for task in ("demo", "sound"):
            versions = [store.publish(version_bundle(task, seed)) for seed in range(2)]
        digest = version_bundle("demo", 0).digest.removeprefix("sha256:")
        filesystem, root = fsspec.core.url_to_fs(place)
        damaged = f"{root}/tasks/demo/{path.format(digest)}"
        filesystem.rm(damaged)
        if contents is not None:
            filesystem.pipe_file(damaged, contents)
        problem, *_ = store.verify()
        assert (problem.task, problem.number, problem.kind) == ("demo", number, kind)
        assert store.verify("demo")[0] == problem
        assert store.load("sound").digest == versions[-1].digest

    def test_an_error_of_any_kind_is_that_versions_alone(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = MaskStore.open(folder)
        for seed in range(3):
            store.publish(version_bundle(seed=seed))
        read, wrong = MaskBundle.from_bytes, version_bundle(seed=1).to_bytes()

        def break_on_one(data: bytes, **options: Any) -> MaskBundle:
            if data == wrong:
                raise OverflowError("date value\nout of range")
            return read(data, **options)

        monkeypatch.setattr(MaskBundle, "from_bytes", break_on_one)
        (problem,) = store.verify()
        assert (problem.number, problem.kind) == (2, "OverflowError")
        assert problem.message == r"date value\nout of range"

    def test_a_bundle_of_another_task(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle("other"))
        shutil.copytree(folder / "tasks/other", folder / "tasks/demo")
        for path in (folder / "tasks/demo").rglob("*.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"task": "demo"}))
        assert [problem.kind for problem in store.verify()] == ["RecordError"]

    def test_names_that_no_task_can_have(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        (folder / "tasks/Not A Task").mkdir()
        assert [problem.kind for problem in store.verify()] == ["InvalidTaskNameError"]
        assert store.tasks() == ("demo",)


class TestClean:
    def killed_publish(self, store: MaskStore) -> str:
        """Leaves a bundle that no record names."""
        bundle = version_bundle(seed=9)
        store._files.replace(bundle_path("demo", bundle.digest), bundle.to_bytes())
        return bundle_path("demo", bundle.digest)

    def test_what_a_killed_publish_left_is_named_and_removed(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        version = store.publish(version_bundle())
        left = self.killed_publish(store)
        (problem,) = store.verify()
        assert problem.kind == "LeftoverError"
        assert left.rsplit("/", 1)[-1][:20] in problem.message
        assert store.clean() == (left,)
        assert store.verify() == ()
        assert store.clean() == ()
        assert store.load("demo").digest == version.digest

    def test_without_a_lock_what_is_young_stays(
        self, place: str, store: MaskStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fcntl.flock", fail_without_locks)
        left = self.killed_publish(store)
        store.publish(version_bundle())
        assert store.clean() == ()
        monkeypatch.setattr("mask_store.store.task_folder.STALE_SECONDS", -60)
        assert store.clean() == (left,)

    def test_nothing_goes_while_a_record_that_may_name_it_can_not_be_read(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        for seed in range(3):
            store.publish(version_bundle(seed=seed))
        (folder / record_path("demo", 1)).write_text("{")
        assert store.clean() == ()
        (folder / record_path("demo", 1)).unlink()
        (folder / current_path("demo")).write_text("{")
        assert store.clean() == ()
        assert len(list(folder.glob("tasks/demo/bundles/*"))) == 3

    def test_what_an_interrupted_deletion_left(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        version = store.publish(version_bundle())
        (folder / current_path("demo")).unlink()
        shutil.rmtree(folder / "tasks/demo/versions")
        assert store.clean() == (bundle_path("demo", version.digest),)


def fail_without_locks(*_: Any) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


class TestVersionNumbers:
    @pytest.mark.parametrize("name", [f"{10**30}.json", "1.json", "00000000.json", "x.json", "\u0661" * 8])
    def test_names_that_no_record_has(self, folder: Path, name: str) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle(seed=0))
        (folder / "tasks/demo/versions" / name).write_text("{}")
        assert store.publish(version_bundle(seed=1)).number == 2
        assert [version.number for version in store.versions("demo")] == [1, 2]
        assert [problem.kind for problem in store.verify()] == ["LeftoverError"]

    def test_a_record_with_a_number_that_no_version_has(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle())
        pointer = folder / current_path("demo")
        pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"number": 10**30}))
        with pytest.raises(RecordError, match="less than or equal to 99999999"):
            store.current("demo")

    def test_after_the_last_one_there_is_none(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        store.publish(version_bundle(seed=0))
        (folder / record_path("demo", MAX_NUMBER)).write_text("{")
        with pytest.raises(StoreFullError, match="task 'demo' has used the last number, 99999999"):
            store.publish(version_bundle(seed=1))
        assert store.publish(version_bundle("other")).number == 1


class TestLinksAndPipes:
    """One task whose files are none harms no other."""

    def make(self, folder: Path, path: str, kind: str) -> None:
        target = folder / "tasks/bad" / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
        if kind == "link":
            target.symlink_to(folder / "tasks/good" / path)
        else:
            os.mkfifo(target)

    @pytest.mark.parametrize("kind", ["link", "pipe"])
    @pytest.mark.parametrize("path", ["current.json", "versions/00000001.json", "versions", "bundles", ""])
    def test_one_task(self, folder: Path, path: str, kind: str) -> None:
        store = MaskStore.open(folder)
        for task in ("bad", "good"):
            store.publish(version_bundle(task))
        self.make(folder, path, kind)
        before = sorted(folder.glob("tasks/good/**/*"))
        assert "good" in store.snapshot().current
        assert "NotAFileError" in {problem.kind for problem in store.verify()}
        assert {problem.task for problem in store.verify()} == {"bad"}
        assert store.load("good").manifest.task == "good"
        for call in (store.load, store.rollback, store.versions):
            with suppress(MaskStoreError):
                call("bad")
        store.clean()
        store.delete("bad")
        assert store.verify() == ()
        assert store.tasks() == ("good",)
        assert sorted(folder.glob("tasks/good/**/*")) == before

    def test_a_pipe_in_the_place_of_the_store(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "store.json")
        for place, error in ((tmp_path, NotAFileError), (tmp_path / "store.json", StoreNotFoundError)):
            with pytest.raises(error):
                MaskStore.open(place)

    def test_a_bundle_longer_than_its_record_says_is_not_read(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        version = store.publish(version_bundle())
        os.truncate(folder / bundle_path("demo", version.digest), 100 << 30)
        with pytest.raises(DigestMismatchError, match=f"expected {version.size} bytes of .*, found more"):
            store.load("demo")
        assert [problem.kind for problem in store.verify()] == ["DigestMismatchError"]
        assert store.publish(version_bundle()) == version
        assert store.verify() == ()


def test_diff(store: MaskStore) -> None:
    for seed in range(2):
        store.publish(version_bundle(seed=seed))
    assert store.diff("demo", 1, 1).differing == 0
    assert store.diff("demo", 1, 2).differing > 0


def test_a_place_that_takes_no_folders_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(folder))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreNotWritableError, match=r"can't be written to: .*: No such file"):
        MaskStore.open(tmp_path / "nowhere" / "store", create=True)


def published(store: MaskStore, count: int) -> list[int]:
    return [store.publish(version_bundle(seed=seed)).number for seed in range(count)]


class TestPrune:
    def test_keeps_the_newest_and_the_current(self, store: MaskStore) -> None:
        published(store, 5)
        store.rollback("demo", 1)
        pruned = store.prune(keep=2)
        assert [version.number for version in pruned.versions] == [2, 3]
        assert [version.number for version in store.versions("demo")] == [1, 4, 5]
        assert store.current("demo").number == 1
        assert store.verify() == ()
        assert store.publish(version_bundle(seed=9)).number == 6  # numbers are not used again

    def test_keeps_what_is_recent(self, store: MaskStore) -> None:
        published(store, 3)
        assert store.prune(recent=timedelta(days=1)).versions == ()
        gone = store.prune(recent=timedelta(seconds=-2), dry_run=True).versions
        assert [version.number for version in gone] == [1, 2]
        assert store.prune(recent=timedelta(seconds=-2)).versions == gone
        assert [version.number for version in store.versions("demo")] == [3]

    def test_keeps_a_bundle_that_another_version_needs(self, store: MaskStore) -> None:
        published(store, 2)
        store.publish(version_bundle(seed=0))  # version 3 has the contents of version 1
        assert [version.number for version in store.prune().versions] == [1, 2]
        assert store.load("demo", 3).digest == version_bundle(seed=0).digest
        assert store.verify() == ()

    def test_leaves_a_damaged_task_alone(self, folder: Path) -> None:
        store = MaskStore.open(folder)
        published(store, 3)
        store.publish(version_bundle("other", seed=0))
        store.publish(version_bundle("other", seed=1))
        (folder / "tasks/demo/versions/00000001.json").write_text("{")
        pruned = store.prune()
        assert [(version.task, version.number) for version in pruned.versions] == [("other", 1)]
        assert [(problem.task, problem.kind) for problem in pruned.problems] == [("demo", "RecordError")]
        assert store.load("demo", 2)

    def test_of_an_unknown_task_deletes_nothing(self, store: MaskStore) -> None:
        published(store, 2)
        with pytest.raises(UnknownTaskError):
            store.prune(["demo", "made-up"])
        assert len(store.versions("demo")) == 2
