"""Text of a file: decompressed by its first bytes, decoded by its byte order mark, the user, or as UTF-8.

A file that is not text in its encoding is an error that names the line and the byte.
"""

import bz2
import codecs
import gzip
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path

from training.errors import DataFileError

COMPRESSED = (".gz", ".bz2", ".xz")

_UNPACK: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\0": lzma.decompress,
}
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_SNIFFED_BYTES = 1000
_OTHERS = "such as --encoding cp1252 or --encoding utf-16-le"


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a whole text file.

    Args:
        path: The file; gzip, bzip2 and xz are known by their first bytes, whatever the name is.
        encoding: Name of its encoding; None for that of its byte order mark, or else UTF-8.

    Raises:
        DataFileError: It is not text in that encoding; names the line.
        OSError, EOFError, zlib.error, lzma.LZMAError: It can't be read or is damaged.
    """
    data = path.read_bytes()
    unpack = next((own for start, own in _UNPACK.items() if data.startswith(start)), None)
    if unpack:
        data = unpack(data)
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    chosen = encoding or marked or "utf-8"
    if not encoding and not marked and b"\0" in data[:_SNIFFED_BYTES]:
        raise DataFileError(f"{path}: not UTF-8 text, it holds null bytes; name its encoding, {_OTHERS}")
    try:
        return data.decode(chosen).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        shown = data[error.start : error.start + 1].hex()
        name = "UTF-8" if chosen.startswith("utf-8") else chosen
        raise DataFileError(
            f"{path}:{line}: not {name} text (byte 0x{shown} at {error.start}); save it as UTF-8 or name its "
            f"encoding, {_OTHERS}"
        ) from error
