from pathlib import Path

import fsspec
import pytest

from mask_store.files import Files, LocalFiles, RemoteFiles


@pytest.fixture
def files(place: str) -> Files:
    if "://" in place:
        return RemoteFiles(*fsspec.core.url_to_fs(place))
    return LocalFiles(Path(place))


class TestFiles:
    def test_replace_and_read(self, files: Files) -> None:
        files.replace("a/b", b"one")
        files.replace("a/b", b"two")
        assert files.read("a/b", 9) == b"two"

    def test_read_of_nothing(self, files: Files) -> None:
        with pytest.raises(FileNotFoundError):
            files.read("a/b", 9)

    def test_create_never_replaces(self, files: Files) -> None:
        files.create("a/b", b"one")
        with pytest.raises(FileExistsError):
            files.create("a/b", b"two")
        assert files.read("a/b", 9) == b"one"

    def test_read_many(self, files: Files) -> None:
        files.replace("a", b"one")
        first, second = files.read_many(["a", "none"], 9)
        assert first == b"one"
        assert isinstance(second, FileNotFoundError)
        assert files.read_many([], 9) == []

    def test_reads_no_more_than_it_is_told_to(self, files: Files) -> None:
        files.replace("a", b"0123456789")
        assert files.read("a", 4) == b"0123"
        assert files.read_many(["a", "a"], 4) == [b"0123", b"0123"]
        files.replace("empty", b"")
        assert files.read("empty", 4) == b""

    def test_age(self, files: Files) -> None:
        files.replace("a", b"one")
        assert 0 <= files.age("a") + 1 < 60
        with pytest.raises(FileNotFoundError):
            files.age("b")

    def test_list(self, files: Files) -> None:
        for path in ("x/b", "x/a", "x/c/d"):
            files.replace(path, b"")
        assert files.list("x") == ["a", "b", "c"]
        assert files.list("none") == []

    def test_remove(self, files: Files) -> None:
        for path in ("x/b", "x/c/d", "y"):
            files.replace(path, b"")
        files.remove("x")
        files.remove("y")
        files.remove("none")
        assert files.list("x") == []
        with pytest.raises(FileNotFoundError):
            files.read("x/c/d", 9)
        with pytest.raises(FileNotFoundError):
            files.read("y", 9)
