"""Errors of the training package.

    TrainingError
      OptionsError          the settings don't make sense, alone or together; .problems lists every mistake
      DataError             the labelled data can't be used
        DataFileError         a file or dataset can't be read, or a line of it is malformed
        ColumnError           a column that is needed isn't there
        NoExamplesError       no usable row is left
        LabelError            the labels can't be learned: only one, or one in dev that train lacks
      RunFolderError        the run folder can't be used
        RunMismatchError      it holds an unfinished run with other settings or data
        RunInUseError         another process is learning in it
      DivergedError         the loss is no longer a number
      NothingLearnedError   what was learned is no better than always giving one answer
      PublishError          everything was learned, but the store refused the mask
      KeepError             everything was learned, but the weights can't be written where they are to be kept
      ResultsError          a file of results can't be used
      ReportError           there is no report of a run, or it can't be used
      SearchError           a learning-rate search found no rate
      OtherProcessError     another of the processes that learn together failed

Each class carries the exit code that a command ends with; see `training.cli.command`.
"""

from collections.abc import Sequence

from mask_store import MaskStoreError

FAILED, BAD_INPUT = 1, 2


class TrainingError(Exception):
    """Base of everything this package raises on purpose; the message is one line meant for the user."""

    exit_code = BAD_INPUT


class OptionsError(TrainingError):
    """Settings that don't make sense.

    Attributes:
        problems: Every mistake found, one sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep every mistake.

        Args:
            problems: The mistakes, at least one.
        """
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class DataError(TrainingError):
    """The labelled data can't be used."""


class DataFileError(DataError):
    """A file or a dataset can't be read, or one line of it is malformed."""


class ColumnError(DataError):
    """A column that is needed isn't there."""


class NoExamplesError(DataError):
    """A file or split holds no usable row."""


class LabelError(DataError):
    """The labels can't be learned."""


class RunFolderError(TrainingError):
    """The run folder can't be used."""

    exit_code = FAILED


class RunMismatchError(RunFolderError):
    """The run folder holds an unfinished run with other settings or other data."""

    exit_code = BAD_INPUT


class RunInUseError(RunFolderError):
    """Another process is learning in the same run folder."""


class DivergedError(TrainingError):
    """The training loss became infinite or not a number."""

    exit_code = FAILED


class NothingLearnedError(TrainingError):
    """What was learned is no better on dev than always giving one answer; the run folder still holds it.

    Attributes:
        found: The figures, as a part of a sentence.
    """

    exit_code = FAILED

    def __init__(self, found: str, folder: object) -> None:
        """Take the figures and the run's folder."""
        super().__init__(
            f"nothing was learned, so nothing is published: {found}. {folder} keeps the run: the same "
            "command with --force publishes it; with --fresh, and other settings (--lr, --epochs) or better "
            "data, it is learned anew"
        )
        self.found = found


class PublishError(TrainingError):
    """The mask was learned but could not be published; the run folder still holds it."""

    exit_code = FAILED


class KeepError(TrainingError):
    """Weights were learned but could not be kept; the run folder still holds them."""

    exit_code = FAILED


class ResultsError(TrainingError):
    """A file of results can't be read or written, or is none."""


class ReportError(TrainingError):
    """There is no report of a run, or it can't be read."""


class SearchError(TrainingError):
    """A learning-rate search found no rate that learns."""

    exit_code = FAILED


class OtherProcessError(TrainingError):
    """Another of the processes that learn together failed.

    Attributes:
        exit_code: That of the failure.
    """

    def __init__(self, message: str, code: int) -> None:
        """Take what failed where, and the exit code."""
        super().__init__(message)
        self.exit_code = code


def exit_code(error: Exception) -> int | None:
    """Return the exit code of an error that is the user's to mend; None for one that is ours."""
    if isinstance(error, TrainingError):
        return error.exit_code
    if isinstance(error, MaskStoreError):
        return BAD_INPUT
    if isinstance(error, OSError):
        return FAILED
    # torch takes seconds to import, which --help and mistakes don't wait for
    from masking import MaskingError  # noqa: PLC0415

    return BAD_INPUT if isinstance(error, MaskingError) else None
