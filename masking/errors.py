"""Masking errors: everything that this package raises on purpose.

MaskingError
  BaseLoadError               the folder or hub id can't be loaded as an encoder
  UnsupportedArchitectureError  no encoder whose layers can be masked and served
  BlockOutOfRangeError        a block to mask that the encoder does not have
  UnknownLayerError           a layer name that matches no linear layer of the encoder
  BaseMismatchError           a mask learned on another base
  CopyError                   a finetuned checkpoint that can't become a task of the base
  ExportError                 a task that can't be written as a checkpoint
  TaskInputError              an input that the task can't take
    EmptyInputError           ... because there is nothing in it
    InputTooLongError         ... because it has more tokens than the task takes
    InputTooLargeError        ... because it has more rows or tokens than are computed at once
"""

from mask_store import one_line


class MaskingError(Exception):
    """Base of every error raised by `masking`; its message is one line that can be logged and sent."""

    def __init__(self, message: str) -> None:
        """Keep the message, made safe whatever name of a bundle or a base it quotes."""
        super().__init__(one_line(message))


class BaseLoadError(MaskingError):
    """The pretrained encoder can't be loaded."""


class UnsupportedArchitectureError(MaskingError):
    """It is no encoder, or none whose layers can be masked and served in batches."""


class BlockOutOfRangeError(MaskingError):
    """A block was asked for that the encoder does not have."""


class UnknownLayerError(MaskingError):
    """A layer name matches no linear layer of the encoder."""


class BaseMismatchError(MaskingError):
    """A mask was learned on another base than the one it is to be applied to."""


class CopyError(MaskingError):
    """A finetuned checkpoint can't become a task of the base."""


class ExportError(MaskingError):
    """A task can't be written as a checkpoint of transformers."""


class TaskInputError(MaskingError):
    """An input is not one that the task can take; the message may be shown to whoever sent it.

    Attributes:
        index: Position of the input in the batch it came in, counted from 0.
    """

    def __init__(self, message: str, *, index: int = 0) -> None:
        """Keep the public `message` and the input's `index` in its batch."""
        super().__init__(message)
        self.message = message
        self.index = index


class EmptyInputError(TaskInputError):
    """An input has no text, no words, or no choices."""


class InputTooLongError(TaskInputError):
    """An input has more than the task takes, and truncation was not asked for.

    Attributes:
        count: What the input has of `unit`; at least that, where it was not read to its end.
        limit: What the task takes of it at most.
        unit: "tokens", special tokens included, or "characters".
    """

    def __init__(
        self, count: int, limit: int, *, unit: str = "tokens", or_more: bool = False, index: int = 0
    ) -> None:
        """Build the public message from the two counts; `or_more` if the input was not read to its end."""
        super().__init__(
            f"input has {count} {unit}{' or more' if or_more else ''} and this task takes at most {limit}; "
            "shorten it or ask for truncation",
            index=index,
        )
        self.count = count
        self.limit = limit
        self.unit = unit


class InputTooLargeError(TaskInputError):
    """An input makes more rows or tokens than are computed at once; truncation does not help."""

    def __init__(self, count: int, limit: float, *, unit: str, index: int = 0) -> None:
        """Build the public message from the two counts of `unit`."""
        super().__init__(
            f"input has {count} {unit} or more and at most {limit} are computed at once; send it in parts",
            index=index,
        )


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, after its class where that is one that says something."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    plain = isinstance(error, OSError | ValueError | RuntimeError) or type(error) is Exception
    return text if plain else f"{type(error).__name__}: {text}"
