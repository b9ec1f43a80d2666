"""Errors of the experiments; the command line prints the message.

ExperimentError             something can't be measured as asked
  ExperimentOptionsError    the command's arguments don't make sense
"""


class ExperimentError(Exception):
    """Base of this package's errors; the message is meant for the user."""

    exit_code = 1


class ExperimentOptionsError(ExperimentError):
    """The command's arguments don't make sense, alone or together."""

    exit_code = 2
