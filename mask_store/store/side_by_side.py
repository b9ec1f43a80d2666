"""Versions side by side: traffic is set, and ended by promoting a version or by going back to the stable one.

Each of them ends with one write after which it is in force. Before that, promoting and aborting move the
pointer to the current version, which decides nothing while traffic is active: stopped in between they are
done again. Holding the store's lock is up to the caller.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from pydantic import ValidationError

from mask_store.errors import RecordError, TrafficError
from mask_store.format.bundle import MaskBundle
from mask_store.format.manifest import describe_problems, utc_now
from mask_store.messages import one_line
from mask_store.store.records import VersionInfo
from mask_store.store.task_folder import TaskFolder
from mask_store.store.traffic import (
    LONGEST_REASON,
    WHOLE,
    WITHOUT_LABELS,
    Aborted,
    Traffic,
    TrafficPlan,
    listed,
)

Check = Callable[[VersionInfo, MaskBundle], object]


def set_traffic(folder: TaskFolder, plan: TrafficPlan, check: Check | None) -> Traffic:
    """Check what is wanted with every bundle, then write it."""
    folder.check_not_pinned()
    current, before = folder.current(), None
    with suppress(RecordError):  # one that can't be read is replaced
        before = folder.traffic()
    stable = _stable_of(plan, current, before if before is not None and before.active else None)
    try:
        traffic = Traffic(
            task=current.task,
            stable=stable,
            weights=plan.weights or {stable: WHOLE},
            shadow=plan.shadow,
            abort=plan.abort,
            since=utc_now(),
        )
    except ValidationError as error:
        raise TrafficError(f"task {current.task!r}: {describe_problems(error)}") from None
    bundles = dict[int, MaskBundle]()
    for number in traffic.versions:
        version = folder.version(number)
        bundles[number] = folder.load(version)
        if check is not None:
            check(version, bundles[number])
    _check(traffic, bundles)
    folder.write_order(traffic)
    return traffic


def promote(folder: TaskFolder, number: int | None) -> VersionInfo:
    """Make a version of the traffic current and end the traffic."""
    folder.check_not_pinned()
    traffic = active_traffic(folder)
    version = folder.version(_candidate(traffic, number))
    folder.load(version)
    folder.point_to(version)
    folder.remove_order(Traffic)
    return version


def abort(folder: TaskFolder, reason: str, only: Traffic | None) -> Traffic:
    """Make the stable version current and end the traffic; keep why."""
    traffic = active_traffic(folder)
    if only is not None and traffic != only:
        raise TrafficError(f"task {traffic.task!r}: its traffic has been set anew since")
    stable = folder.version(traffic.stable)
    if folder.current_or_none() != stable:
        folder.point_to(stable)
    ended = traffic.model_copy(
        update={"aborted": Aborted(reason=one_line(reason)[:LONGEST_REASON], at=utc_now())}
    )
    folder.write_order(ended)
    return ended


def active_traffic(folder: TaskFolder) -> Traffic:
    """Return the traffic that is active.

    Raises:
        TrafficError: There is none.
    """
    traffic = folder.traffic()
    if traffic is None:
        raise TrafficError(f"task {folder.current().task!r} has no traffic: its current version is served")
    if (ended := traffic.aborted) is not None:
        when = f"{ended.at:%Y-%m-%d %H:%M:%S} UTC"
        raise TrafficError(f"the traffic of task {traffic.task!r} was aborted at {when}: {ended.reason}")
    return traffic


def _stable_of(plan: TrafficPlan, current: VersionInfo, before: Traffic | None) -> int:
    """Return the stable version of a plan.

    Args:
        plan: What is wanted.
        current: The version that the store calls current.
        before: The traffic that is active now.

    Raises:
        TrafficError: It has to be named.
    """
    if plan.stable is not None:
        return plan.stable
    known = (current.number,) if before is None else (before.stable, current.number)
    for number in known:
        if number in plan.weights or not plan.weights:
            return number
    raise TrafficError(
        f"{current}, which is current, is not among the weights: give it one, or name as `stable` the "
        "version that the others are compared with"
    )


def _check(traffic: Traffic, bundles: Mapping[int, MaskBundle]) -> None:
    """Check that the versions of traffic can take each other's requests, and can be judged by its rule.

    Args:
        traffic: The traffic.
        bundles: Every version of it by number.

    Raises:
        TrafficError: The message says what does not fit.
    """
    stable = traffic.stable
    wanted = bundles[stable].manifest
    if traffic.abort is not None and traffic.abort.agreement is not None and wanted.kind in WITHOUT_LABELS:
        raise TrafficError(
            f"task {wanted.task!r} is one of {wanted.kind}, which has no labels that can agree; abort.errors "
            "works for every kind"
        )
    for number, bundle in sorted(bundles.items()):
        found, name = bundle.manifest, f"task {wanted.task!r}: version {number}"
        if (found.kind, found.pair) != (wanted.kind, wanted.pair):
            raise TrafficError(f"{name} takes other inputs than version {stable}: they can't share requests")
        for part in wanted.base.differing(found.base):
            raise TrafficError(
                f"{name} has another base than version {stable}: {part} {found.base.identity[part]}, not "
                f"{wanted.base.identity[part]}"
            )


def _candidate(traffic: Traffic, number: int | None) -> int:
    """Return the version to promote: the one named, or the only one beside the stable one.

    Raises:
        TrafficError: It is not among those of the traffic, or there are several and none is named.
    """
    named, others = f"task {traffic.task!r}", traffic.candidates
    if number is None and len(others) == 1:
        return others[0]
    if number is None:
        raise TrafficError(f"{named}: name the version to promote: {listed(others or traffic.versions)}")
    if number not in traffic.versions:
        raise TrafficError(f"{named}: version {number} has no traffic, only {listed(traffic.versions)}")
    return number
