"""What a benchmark may end with; the command line prints the message."""

import importlib
from types import ModuleType


class BenchmarkError(Exception):
    """Base of this package's errors."""


class WrongResultError(BenchmarkError):
    """A candidate computes something else than it should, so its time means nothing."""


class MissingExtraError(BenchmarkError):
    """A package of the extra "bench" is not installed."""


class ServerNotReadyError(BenchmarkError):
    """A server that a benchmark started did not come up."""


def need(module: str) -> ModuleType:
    """Imports a package that only some benchmarks need.

    Raises:
        MissingExtraError: It is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this needs {module}, which is not installed: pip install 'maskserve[bench]'"
        ) from error
