"""What an experiment may end with; the command line prints the message.

ExperimentError
ExperimentOptionsError   the command's arguments don't make sense
MissingDataError         the folder of data is not there, or lacks a task's files
"""


class ExperimentError(Exception):
    """Base of this package's errors; the message is meant for the user."""

    exit_code = 1


class ExperimentOptionsError(ExperimentError):
    """The command's arguments don't make sense, alone or together."""

    exit_code = 2
