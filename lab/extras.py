"""Optional packages: imported where they are needed, named with their extra where they are missing."""

import importlib
from types import ModuleType


class MissingExtraError(Exception):
    """A package of an extra is not installed; the message says how to get it.

    Attributes:
        exit_code: What a command ends with.
    """

    exit_code = 2


def need(module: str, extra: str = "bench") -> ModuleType:
    """Import a package that only some commands need.

    Args:
        module: Name of the module.
        extra: The extra of this project that installs it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this needs {module}, which is not installed: pip install 'maskserve[{extra}]'"
        ) from error
