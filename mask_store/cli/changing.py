"""Commands that change a store: rollback, delete, prune, clean, ensemble and copy."""

import argparse
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

from mask_store.cli.printing import print_json, print_problems, print_table, version_fields
from mask_store.errors import StoreNotFoundError
from mask_store.sizes import human_bytes

if TYPE_CHECKING:
    from mask_store.store.store import MaskStore


def rollback(store: "MaskStore", options: argparse.Namespace) -> int:
    """Make another version current."""
    done = store.rollback_and_load(options.task, options.version)
    if options.json:
        print_json(
            {
                "current": version_fields(done.version),
                "before": done.before and version_fields(done.before),
                "problems": [dataclasses.asdict(problem) for problem in done.problems],
            }
        )
    else:
        before = f"version {done.before.number}" if done.before else "damaged"
        print(f"{done.version} is current now, before it was {before}")
        print_problems(done.problems)
    return 0


def delete(store: "MaskStore", options: argparse.Namespace) -> int:
    """Delete a version that is not current, or a whole task."""
    store.delete(options.task, options.version)
    if options.json:
        print_json({"deleted": {"task": options.task, "number": options.version}})
    else:
        what = "with all its versions" if options.version is None else f"version {options.version}"
        print(f"deleted task {options.task!r} {what}")
    return 0


def clean(store: "MaskStore", options: argparse.Namespace) -> int:
    """Remove what killed publishes left behind."""
    removed = store.clean()
    if options.json:
        print_json({"removed": removed})
    else:
        for path in removed:
            print(f"removed {path}")
        print(f"{len(removed)} files removed")
    return 0


def ensemble(store: "MaskStore", options: argparse.Namespace) -> int:
    """Publish a task that several masks answer together."""
    version = store.publish_ensemble(options.task, options.combine, options.members)
    if options.json:
        print_json({"published": version_fields(version)})
    else:
        print(
            f"published {version}, an ensemble of {len(options.members)} members, {human_bytes(version.size)}"
        )
    return 0


def prune(store: "MaskStore", options: argparse.Namespace) -> int:
    """Delete versions that are neither new, nor recent, nor current."""
    if options.keep is None and options.days is None:
        options.parser.error("--keep or --days says what stays")
    pruned = store.prune(
        options.tasks or None,
        keep=options.keep or 0,
        recent=None if options.days is None else timedelta(days=options.days),
        dry_run=options.dry_run,
    )
    if options.json:
        print_json(
            {
                "deleted": not options.dry_run,
                "versions": [version_fields(version) for version in pruned.versions],
                "problems": [dataclasses.asdict(problem) for problem in pruned.problems],
            }
        )
    else:
        rows = [(v.task, str(v.number), f"{v.published:%Y-%m-%d %H:%M:%S}") for v in pruned.versions]
        if rows:
            print_table(("task", "version", "published (UTC)"), rows)
        print(f"{len(rows)} versions {'would be deleted' if options.dry_run else 'deleted'}")
        print_problems(pruned.problems)
    return 1 if pruned.problems else 0


def copy(store: "MaskStore", options: argparse.Namespace) -> int:
    """Publish versions in another store, each as its own next version there."""
    from mask_store.store.store import MaskStore  # noqa: PLC0415 (NumPy and fsspec, which --help need not)

    wanted = options.versions or [(task, None) for task in store.tasks()]
    try:
        target = MaskStore.open(options.to, create=options.create)
    except StoreNotFoundError as error:
        raise StoreNotFoundError(f"{error}; --create makes one") from None
    published = []
    for task, number in wanted:
        source = store.version(task, number)
        made = target.publish(store.load(source))
        published.append({"from": version_fields(source), "to": version_fields(made)})
        if not options.json:
            print(f"{source} is {made} in {target}, {human_bytes(made.size)}", flush=True)
    if options.json:
        print_json({"published": published})
    return 0
