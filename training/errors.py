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
      PublishError          everything was learned, but the store refused the mask
      KeepError             everything was learned, but the weights can't be written where they are to be kept
      ResultsError          a file of results can't be used
      SearchError           a learning-rate search found no rate

Each class carries the exit code that ``python -m training.learn_mask`` ends with.
"""

from collections.abc import Sequence


class TrainingError(Exception):
    """Base of everything this package raises on purpose; the message is one line meant for the user."""

    exit_code = 2


class OptionsError(TrainingError):
    """Settings that don't make sense.

    Attributes:
        problems: every mistake found, one sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep every mistake.

        Args:
            problems: the mistakes, at least one.
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

    exit_code = 1


class RunMismatchError(RunFolderError):
    """The run folder holds an unfinished run with other settings or other data."""

    exit_code = 2


class RunInUseError(RunFolderError):
    """Another process is learning in the same run folder."""


class DivergedError(TrainingError):
    """The training loss became infinite or not a number."""

    exit_code = 1


class PublishError(TrainingError):
    """The mask was learned but could not be published; the run folder still holds it."""

    exit_code = 1


class KeepError(TrainingError):
    """Weights were learned but could not be kept; the run folder still holds them."""

    exit_code = 1


class ResultsError(TrainingError):
    """A file of results can't be read or written, or is none."""


class SearchError(TrainingError):
    """A learning-rate search found no rate that learns."""

    exit_code = 1
