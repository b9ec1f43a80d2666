"""Errors of the benchmarks; the command line prints the message."""


class BenchmarkError(Exception):
    """Base of this package's errors."""


class WrongResultError(BenchmarkError):
    """A candidate computes something else than it should, so its time means nothing."""


class UnavailableError(BenchmarkError):
    """A candidate can't be had on this machine or for this batch; the others are measured without it."""
