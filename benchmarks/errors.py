"""Errors of the benchmarks; the command line prints the message."""


class BenchmarkError(Exception):
    """Base of this package's errors."""


class WrongResultError(BenchmarkError):
    """A candidate computes something else than it should, so its time means nothing."""
