import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from training.data.files.text import read_text
from training.errors import DataFileError

SAMPLE = "größer\n日本\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_encoding_is_that_of_the_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t").write_bytes(SAMPLE.encode(encoding))
    assert read_text(tmp_path / "t") == SAMPLE


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_another_encoding_is_told_by_the_user(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t").write_bytes("größer".encode(encoding))
    assert read_text(tmp_path / "t", encoding) == "größer"
    with pytest.raises(DataFileError, match="--encoding"):
        read_text(tmp_path / "t")


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"a\nb\nc\xe9d\n")
    with pytest.raises(DataFileError, match=r"t:3: not UTF-8 text \(byte 0xe9 at 5\)"):
        read_text(tmp_path / "t")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_are_known_by_their_first_bytes(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "plain.name").write_bytes(pack(SAMPLE.encode()))
    assert read_text(tmp_path / "plain.name") == SAMPLE
