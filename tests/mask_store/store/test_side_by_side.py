"""Traffic: what is set, refused, promoted and aborted, and what it keeps from being deleted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mask_store import (
    AbortRule,
    MaskBundle,
    MaskStore,
    MissingBundleError,
    RecordError,
    TrafficError,
    TrafficPlan,
    UnknownTaskError,
    UnknownVersionError,
    VersionInfo,
    pack_bits,
)
from mask_store.store.orders import order_path
from mask_store.store.records import bundle_path
from mask_store.store.traffic import MOST_VERSIONS
from tests.mask_store.store.test_task_folder import crash_at_each_write
from tests.support.bundles import HEAD, example_mask, layer_of, manifest_of, version_bundle
from tests.support.counting import StoreReads

PLAN = TrafficPlan(weights={1: 90, 2: 10}, stable=1)


@pytest.fixture
def two(store: MaskStore) -> MaskStore:
    for seed in range(2):
        store.publish(version_bundle(seed=seed))
    return store


def bundle_with(**changes: Any) -> MaskBundle:
    """A bundle of the same task with another manifest."""
    manifest = manifest_of((layer_of("pooler.dense", example_mask()),), **changes)
    return MaskBundle.create(manifest, {"pooler.dense": pack_bits(example_mask())}, HEAD)


def test_traffic_is_set_and_read(two: MaskStore) -> None:
    assert two.traffic("demo") is None
    rule = AbortRule(agreement=0.9, errors=0.1, rows=50)
    plan = TrafficPlan(weights={1: 99.5, 2: 0.5}, shadow=2, stable=1, abort=rule)
    set_ = two.set_traffic("demo", plan)
    assert two.traffic("demo") == set_
    assert (set_.stable, set_.weights, set_.shadow, set_.abort) == (1, {1: 99.5, 2: 0.5}, 2, rule)
    assert (set_.active, set_.versions, set_.candidates) == (True, (1, 2), (2,))
    assert two.current("demo").number == 2  # which does not matter now
    assert two.verify() == ()


def test_a_snapshot_has_all_traffic_by_few_reads(two: MaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    two.publish(version_bundle("other"))
    assert two.snapshot().traffic == {}
    traffic = two.set_traffic("demo", PLAN)
    reads = StoreReads(monkeypatch)
    snapshot = two.snapshot()
    assert snapshot.traffic == {"demo": traffic}
    assert [path for path in reads.paths if path.startswith("orders")] == [order_path("demo", "traffic")]


def test_a_shadow_alone_leaves_all_requests_to_the_current_version(two: MaskStore) -> None:
    traffic = two.set_traffic("demo", TrafficPlan(shadow=1))
    assert (traffic.stable, traffic.weights, traffic.shadow) == (2, {2: 100}, 1)


def test_the_stable_version_stays_the_one_that_it_was(two: MaskStore) -> None:
    two.set_traffic("demo", TrafficPlan(weights={2: 100}))  # nothing published gets requests from now on
    two.publish(version_bundle(seed=7))
    assert two.current("demo").number == 3
    assert two.set_traffic("demo", TrafficPlan(weights={2: 95, 3: 5})).stable == 2
    assert two.set_traffic("demo", TrafficPlan(weights={3: 50, 1: 50})).stable == 3  # 2 is not among them


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({}, "expected `weights`, `shadow` or both"),
        ({"weights": {1: 90}}, "have to be 100 together, not 90"),
        ({"weights": {1: 90, 2: 20}}, "have to be 100 together, not 110"),
        ({"weights": {1: -1, 2: 101}}, "greater than or equal to 0"),
        ({"weights": {1: 101}}, "less than or equal to 100"),
        ({"weights": {1: float("nan")}}, "finite"),
        ({"weights": {1: "100"}}, "valid number"),
        ({"weights": {0: 100}}, "greater than or equal to 1"),
        ({"weights": {"one": 100}}, "valid integer"),
        ({"weights": {n: 100 if n == 1 else 0 for n in range(1, MOST_VERSIONS + 2)}}, "at most 8 items"),
        ({"weights": {1: 100}, "shadow": "2"}, "valid integer"),
        ({"weights": {1: 100}, "canary": 2}, "Extra inputs"),
        ({"weights": {1: 100}, "abort": {"agreement": 0.9}}, "there is none"),
        ({"shadow": 1, "abort": {}}, "needs `agreement`, `errors` or both"),
        ({"shadow": 1, "abort": {"agreement": 1.5}}, "less than or equal to 1"),
        ({"shadow": 1, "abort": {"errors": -0.5}}, "greater than or equal to 0"),
        ({"shadow": 1, "abort": {"errors": 0.5, "rows": 0}}, "greater than or equal to 1"),
    ],
)
def test_a_plan_that_makes_no_sense(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrafficPlan.model_validate(plan)


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (
            TrafficPlan(weights={1: 100}),
            TrafficError,
            "version 2, which is current, is not among",
        ),
        (TrafficPlan(weights={1: 100}, stable=2), TrafficError, "the stable version 2 has no weight"),
        (TrafficPlan(weights={2: 50, 9: 50}), UnknownVersionError, "no version 9, it has 1, 2"),
        (TrafficPlan(shadow=9), UnknownVersionError, "no version 9, it has 1, 2"),
        (TrafficPlan(shadow=2), TrafficError, "can't be compared with itself"),
    ],
)
def test_a_plan_that_the_store_refuses(
    two: MaskStore, plan: TrafficPlan, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        two.set_traffic("demo", plan)
    assert two.traffic("demo") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair": True}, "version 3 takes other inputs than version 2"),
        (
            {"base": {"fingerprint": "sha256:" + "cd" * 32}},
            "version 3 has another base than version 2: weights",
        ),
    ],
)
def test_versions_that_can_not_share_requests(
    two: MaskStore, changes: Mapping[str, Any], message: str
) -> None:
    base = version_bundle().manifest.base.model_copy(update=changes.get("base", {}))
    two.publish(bundle_with(**{**changes, "base": base}))
    with pytest.raises(TrafficError, match=message):
        two.set_traffic("demo", TrafficPlan(weights={2: 50, 3: 50}, stable=2))


def test_a_damaged_version_gets_no_traffic(two: MaskStore) -> None:
    two._files.remove(bundle_path("demo", two.version("demo", 1).digest))
    with pytest.raises(MissingBundleError):
        two.set_traffic("demo", PLAN)
    assert two.traffic("demo") is None


def test_what_the_caller_checks_comes_before_anything_is_written(two: MaskStore) -> None:
    seen: list[tuple[int, str]] = []

    def check(version: VersionInfo, bundle: MaskBundle) -> None:
        seen.append((version.number, bundle.digest))
        if version.number == 2:
            raise RuntimeError("does not fit")

    with pytest.raises(RuntimeError, match="does not fit"):
        two.set_traffic("demo", PLAN, check=check)
    assert seen == [(n, two.version("demo", n).digest) for n in (1, 2)]
    assert two.traffic("demo") is None


def test_promoting_ends_traffic(two: MaskStore) -> None:
    two.set_traffic("demo", TrafficPlan(weights={2: 100, 1: 0}))
    assert two.promote("demo").number == 1
    assert two.current("demo").number == 1
    assert two.traffic("demo") is None
    with pytest.raises(TrafficError, match="has no traffic"):
        two.promote("demo")


def test_of_several_versions_the_one_to_promote_is_named(two: MaskStore) -> None:
    two.publish(version_bundle(seed=2))
    two.set_traffic("demo", TrafficPlan(weights={3: 80, 2: 20}, shadow=1))
    with pytest.raises(TrafficError, match="name the version to promote: 1, 2"):
        two.promote("demo")
    with pytest.raises(TrafficError, match="version 4 has no traffic, only 1, 2, 3"):
        two.promote("demo", 4)
    assert two.promote("demo", 1).number == two.current("demo").number == 1


def test_aborting_returns_to_the_stable_version_and_says_why(two: MaskStore) -> None:
    two.set_traffic("demo", PLAN)
    ended = two.abort_traffic("demo", "too slow\nfor us")
    assert two.traffic("demo") == ended
    assert ended.aborted is not None
    assert (ended.active, ended.aborted.reason) == (False, "too slow\\nfor us")
    assert two.current("demo").number == 1  # it was 2 while traffic decided
    with pytest.raises(TrafficError, match=r"was aborted at .*: too slow"):
        two.abort_traffic("demo", "again")
    assert two.set_traffic("demo", TrafficPlan(shadow=2)).active


def test_a_server_aborts_only_what_it_has_judged(two: MaskStore) -> None:
    judged = two.set_traffic("demo", PLAN)
    anew = two.set_traffic("demo", TrafficPlan(weights={1: 95, 2: 5}))
    with pytest.raises(TrafficError, match="has been set anew since"):
        two.abort_traffic("demo", "agreement", only=judged)
    assert two.traffic("demo") == anew
    assert two.abort_traffic("demo", "agreement", only=anew).aborted


@pytest.mark.parametrize("act", ["promote", "abort"])
def test_a_crash_leaves_the_traffic_as_it_was_or_ends_it(place: str, act: str) -> None:
    target = 2 if act == "promote" else 1

    def work(store: MaskStore) -> None:
        store.set_traffic("demo", PLAN)
        end(store)

    def end(store: MaskStore) -> None:
        store.promote("demo") if act == "promote" else store.abort_traffic("demo", "why")

    def check(store: MaskStore) -> None:
        assert store.verify() == ()
        if store.traffic("demo") is None and act == "abort":
            store.set_traffic("demo", PLAN)  # the crash came before it was set
        traffic = store.traffic("demo")
        if traffic is not None and traffic.active:
            assert (traffic.stable, traffic.weights) == (1, {1: 90, 2: 10})
            end(store)
        assert store.current("demo").number == target

    crash_at_each_write(work, check, place)


def test_what_has_traffic_is_not_deleted_pruned_or_rolled_back(two: MaskStore) -> None:
    for seed in (2, 3):
        two.publish(version_bundle(seed=seed))
    two.set_traffic("demo", TrafficPlan(weights={4: 100}, shadow=2))
    with pytest.raises(TrafficError, match="version 2 has traffic"):
        two.delete("demo", 2)
    with pytest.raises(TrafficError, match="promote or abort it"):
        two.rollback("demo")
    assert [version.number for version in two.prune().versions] == [1, 3]
    two.abort_traffic("demo", "done")
    assert [version.number for version in two.prune().versions] == [2]


def test_a_deleted_task_has_no_traffic_left(two: MaskStore) -> None:
    two.set_traffic("demo", PLAN)
    two.delete("demo")
    with pytest.raises(UnknownTaskError):
        two.traffic("demo")
    two.publish(version_bundle())
    assert two.traffic("demo") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"task":"demo"}',
        b'{"task":"demo","weights":{"1":100},"stable":1}',
        b"x" * 9999,
    ],
)
def test_traffic_that_can_not_be_read_hides_nothing(two: MaskStore, data: bytes) -> None:
    two._files.replace(order_path("demo", "traffic"), data)
    snapshot = two.snapshot()
    assert (snapshot.traffic, [problem.task for problem in snapshot.unreadable]) == ({}, ["demo"])
    assert snapshot.current["demo"].number == 2
    assert [problem.kind for problem in two.verify()] == ["RecordError"]
    with pytest.raises(RecordError, match="can't be read, set it anew"):
        two.traffic("demo")
    pruned = two.prune()
    assert (pruned.versions, [problem.task for problem in pruned.problems]) == ((), ["demo"])
    two.set_traffic("demo", PLAN)
    assert two.verify() == ()


def test_traffic_of_another_task_or_of_none(two: MaskStore) -> None:
    two.publish(version_bundle("other"))
    two.set_traffic("demo", PLAN)
    two._files.replace(order_path("other", "traffic"), two._files.read(order_path("demo", "traffic"), 4096))
    two._files.replace(order_path("nobody", "traffic"), b"{}")
    two._files.replace("orders/notes.txt", b"{}")
    snapshot = two.snapshot()
    assert [*snapshot.traffic] == ["demo"]
    assert [problem.message for problem in snapshot.unreadable] == [
        "task 'other': expected traffic of it, found that of 'demo'"
    ]


def test_a_version_that_is_gone_is_told(two: MaskStore, tmp_path: Path) -> None:
    two.set_traffic("demo", PLAN)
    two._files.remove("tasks/demo/versions/00000001.json")
    assert next((problem.number, problem.kind) for problem in two.verify()) == (1, "TrafficError")
