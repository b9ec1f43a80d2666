"""Commands that hold a task at one version or out of service: pin, unload and release."""

import argparse
from typing import TYPE_CHECKING

from mask_store.cli.printing import print_json

if TYPE_CHECKING:
    from mask_store.store.holds import Hold
    from mask_store.store.store import MaskStore


def pin(store: "MaskStore", options: argparse.Namespace) -> int:
    """Keep to one version."""
    return _show(options, store.pin(options.task, options.version))


def unload(store: "MaskStore", options: argparse.Namespace) -> int:
    """Take a task out of service."""
    return _show(options, store.unload(options.task))


def release(store: "MaskStore", options: argparse.Namespace) -> int:
    """End a pin or an unload."""
    before = store.release(options.task)
    if options.json:
        print_json({"hold": None})
    elif before is None:
        print(f"task {options.task!r} is neither pinned nor unloaded")
    else:
        print(f"task {options.task!r} is not {before} any more")
    return 0


def _show(options: argparse.Namespace, hold: "Hold") -> int:
    if options.json:
        print_json({"hold": hold.model_dump(mode="json")})
    else:
        print(f"task {hold.task!r} is {hold} now, until it is released")
    return 0
