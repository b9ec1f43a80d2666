"""Log formats: text for people, or one JSON object a line for machines.

A record may carry `fields`, a mapping of what the line is about; both forms show them. Messages quote names
and texts of others, so in neither form can they begin a line: only records do.
"""

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from mask_store import escape_controls
from server.settings import Settings

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_PARTED = re.compile(r'[\s"=]')


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, and the fields as name=value; a traceback on indented lines.

    A value that could be read as several fields stands in quotes.
    """

    def __init__(self) -> None:
        """Take no options."""
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Return all lines, the first of which alone begins at the margin."""
        line, *traceback = super().format(record).split("\n")
        return "\n".join([line, *(f"  {escape_controls(more)}" for more in traceback)])

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without an exception."""
        fields = "".join(f" {name}={_quoted(str(value))}" for name, value in _fields(record).items())
        return escape_controls(super().formatMessage(record) + fields)


class JsonFormatter(logging.Formatter):
    """One JSON object: time, level, logger, message, the fields, and an exception as text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the whole line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logs(settings: Settings) -> None:
    """Log to stderr in the wanted form and from the wanted level on."""
    forms: dict[Literal["text", "json"], type[logging.Formatter]] = {
        "text": TextFormatter,
        "json": JsonFormatter,
    }
    handler = logging.StreamHandler()
    handler.setFormatter(forms[settings.log_format]())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if _PARTED.search(value) else value


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return getattr(record, "fields", {})
