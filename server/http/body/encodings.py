"""Encodings of a body: gzip and deflate, Unicode, and the names of JSON lines."""

import re
import zlib
from collections.abc import Iterable

from server.errors import MalformedBodyError, UnsupportedEncodingError

NDJSON = "application/x-ndjson"
_NDJSON_NAMES = re.compile(  # of the many names of JSON lines, those that libraries and services use
    r"(application|text)/((x-)?(nd-?json|json-?l(ines)?|ldjson|json-stream)|stream\+json)", re.IGNORECASE
)
_PIECE = 64 << 10  # most bytes that are unpacked at once
_MOST_MEMBERS = 1000  # of one gzip file
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_ZLIB_METHOD = 8
_BOM = b"\xef\xbb\xbf"
_OTHER_UNICODE = (b"\xff\xfe", b"\xfe\xff")


class Decoder:
    """Unpacks deflate, or gzip with any number of members, as `cat a.gz b.gz` makes it, piece by piece."""

    def __init__(self, coding: str) -> None:
        """Begin to unpack `coding`: gzip or deflate."""
        self._coding = coding
        self._member: zlib._Decompress | None = None
        self._members = 0
        self._packed = b""
        self._full = False

    @property
    def has_more(self) -> bool:
        """Whether there is more to unpack of what was fed."""
        return bool(self._packed) or self._full

    def feed(self, piece: bytes) -> bytes:
        """Unpack at most 64 KiB of this piece and what is left of those before.

        Raises:
            MalformedBodyError: It is not in the coding that it is said to be in.
        """
        packed, self._packed = self._packed + piece, b""
        if self._member is None:
            packed = packed.lstrip(b"\0") if self._members else packed  # gzip files may be padded with zeros
            if not packed:
                return b""
            self._member = self._next_member(packed)
        try:
            unpacked = self._member.decompress(packed, _PIECE)
        except zlib.error:
            raise self._damaged() from None
        self._packed, self._full = self._member.unconsumed_tail, len(unpacked) == _PIECE
        if self._member.eof:
            self._packed, self._full, self._member = self._member.unused_data, False, None
        return unpacked

    def check_end(self) -> None:
        """Check that nothing is missing.

        Raises:
            MalformedBodyError: The end is.
        """
        if self._member is not None:
            raise self._damaged()

    def _next_member(self, packed: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > (_MOST_MEMBERS if self._coding == "gzip" else 1):
            raise self._damaged()
        if self._coding == "gzip":
            return zlib.decompressobj(_GZIP)
        # "deflate" is zlib's format, but some send it without zlib's head.
        return zlib.decompressobj(_ZLIB if packed[0] & 0xF == _ZLIB_METHOD else _RAW)

    def _damaged(self) -> MalformedBodyError:
        return MalformedBodyError(f"the body is not {self._coding}, though its Content-Encoding says so")


def decoder_of(headers: Iterable[str]) -> Decoder | None:
    """Return what unpacks the coding that Content-Encoding headers name; None for nothing to do.

    Raises:
        UnsupportedEncodingError: It is another than gzip and deflate, or there are several.
    """
    named = [part.strip().lower() for header in headers for part in header.split(",")]
    codings = [name.removeprefix("x-") for name in named if name not in ("", "identity")]
    if not codings:
        return None
    if codings not in (["gzip"], ["deflate"]):
        raise UnsupportedEncodingError
    return Decoder(codings[0])


def utf8(text: bytes) -> bytes:
    """Return the text without a byte order mark.

    Raises:
        UnsupportedEncodingError: It is UTF-16 or UTF-32, by its mark or by the zeros in its first characters.
    """
    if text.startswith(_OTHER_UNICODE) or b"\0" in text[:4]:
        raise UnsupportedEncodingError("the body is UTF-16 or UTF-32; send it as UTF-8")
    return text.removeprefix(_BOM)


def is_ndjson(media_type: str) -> bool:
    """Return whether a media type, with or without parameters, is one of the names of JSON lines."""
    return _NDJSON_NAMES.fullmatch(media_type.partition(";")[0].strip()) is not None


def accepted_ndjson(accept: str) -> str | None:
    """Return the name of JSON lines that an Accept header has, if any."""
    names = (part.partition(";")[0].strip() for part in accept.split(","))
    return next((name for name in names if is_ndjson(name)), None)
