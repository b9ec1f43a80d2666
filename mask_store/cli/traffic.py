"""Commands that serve versions of a task side by side: traffic, promote and abort."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mask_store.cli.printing import print_json, print_table, version_fields
from mask_store.format.manifest import describe_problems
from mask_store.messages import escape_controls

if TYPE_CHECKING:
    from mask_store.store.store import MaskStore
    from mask_store.store.traffic import Traffic, TrafficPlan


def traffic(store: "MaskStore", options: argparse.Namespace) -> int:
    """Set the traffic of a task, or print it where nothing is to be set."""
    given = (options.weights, options.shadow, options.stable, options.agreement, options.errors)
    if any(one is not None for one in given):
        return _show(options, options.task, store.set_traffic(options.task, _plan(options)))
    return _show(options, options.task, store.traffic(options.task))


def promote(store: "MaskStore", options: argparse.Namespace) -> int:
    """Serve a version that has traffic alone."""
    version = store.promote(options.task, options.version)
    if options.json:
        print_json({"current": version_fields(version)})
    else:
        print(f"{version} is current now, and gets all requests")
    return 0


def abort(store: "MaskStore", options: argparse.Namespace) -> int:
    """Return to the stable version."""
    ended = store.abort_traffic(options.task, options.reason)
    if options.json:
        print_json({"traffic": ended.model_dump(mode="json")})
    else:
        print(f"task {ended.task!r} version {ended.stable} is current now, and gets all requests")
    return 0


def _plan(options: argparse.Namespace) -> "TrafficPlan":
    from mask_store.store.traffic import TrafficPlan  # noqa: PLC0415 (NumPy, which --help need not)

    rule = {"agreement": options.agreement, "errors": options.errors}
    if all(one is None for one in rule.values()):
        if options.rows is not None:
            options.parser.error("--abort-rows goes with --abort-agreement or --abort-errors")
        abort_rule = None
    else:
        abort_rule = rule | ({} if options.rows is None else {"rows": options.rows})
    weights = options.weights or []
    if len(dict(weights)) < len(weights):
        options.parser.error("--weights: a version is there twice")
    fields = {
        "weights": dict(weights),
        "shadow": options.shadow,
        "stable": options.stable,
        "abort": abort_rule,
    }
    try:
        return TrafficPlan.model_validate(fields)
    except ValidationError as error:
        options.parser.error(describe_problems(error))  # which ends the command
        raise


def _show(options: argparse.Namespace, task: str, found: "Traffic | None") -> int:
    if options.json:
        print_json({"traffic": None if found is None else found.model_dump(mode="json")})
        return 0
    if found is None:
        print(f"task {task!r} has no traffic: its current version gets all requests")
        return 0
    print_table(("version", "requests", ""), _rows(found))
    for line in _notes(found):
        print(escape_controls(line))
    return 0


def _rows(found: "Traffic") -> Iterable[tuple[str, str, str]]:
    for number in found.versions:
        roles = {"stable": number == found.stable, "shadow": number == found.shadow}
        weight = f"{found.weights.get(number, 0):g} %"
        yield str(number), weight, ", ".join(role for role, holds in roles.items() if holds)


def _notes(found: "Traffic") -> Iterable[str]:
    if (rule := found.abort) is not None:
        bounds = {"agreement below": rule.agreement, "errors above": rule.errors}
        told = " or ".join(f"{name} {bound:.4g}" for name, bound in bounds.items() if bound is not None)
        yield f"aborted at {told}, after {rule.rows:,} rows"
    yield f"set {found.since:%Y-%m-%d %H:%M:%S} UTC"
    if (ended := found.aborted) is not None:
        yield f"ended {ended.at:%Y-%m-%d %H:%M:%S} UTC: {ended.reason}"
