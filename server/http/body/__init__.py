"""Request bodies: read up to a limit and in time, decoded; their work is dropped when the client leaves."""

from server.http.body.encodings import NDJSON, accepted_ndjson, is_ndjson, utf8
from server.http.body.limits import BodyLimits, BodyMiddleware
from server.http.body.reading import (
    read_body,
    read_json,
    read_text,
    stream_body,
    stream_text,
    unless_left,
)
from server.http.body.values import check_values

__all__ = [
    "NDJSON",
    "BodyLimits",
    "BodyMiddleware",
    "accepted_ndjson",
    "check_values",
    "is_ndjson",
    "read_body",
    "read_json",
    "read_text",
    "stream_body",
    "stream_text",
    "unless_left",
    "utf8",
]
