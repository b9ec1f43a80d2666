"""Commands that look at a store: list, show, verify and diff. They change nothing."""

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mask_store.cli.printing import print_json, print_problems, print_table, version_fields
from mask_store.format.manifest import (
    CombineRule,
    EnsembleManifest,
    Manifest,
    MemberInfo,
    Pooling,
    SignManifest,
    TaskManifest,
)
from mask_store.format.mask_info import LearnedInfo, LearnedMasks
from mask_store.messages import escape_controls
from mask_store.sizes import human_bytes

if TYPE_CHECKING:
    from mask_store.format.bundle import MaskBundle
    from mask_store.format.diff import BundleDiff
    from mask_store.store.records import VersionInfo
    from mask_store.store.store import MaskStore

_COMBINED: Mapping[CombineRule, str] = {
    "labels": "vote of the labels",
    "logits": "mean of the logits",
    "probabilities": "mean of the probabilities",
}
_POOLED: Mapping[Pooling, str] = {"mean": "mean of the tokens", "cls": "of [CLS]"}
_UNMEASURED = {False: "not measured", True: "not measured for the members together"}


def list_tasks(store: "MaskStore", options: argparse.Namespace) -> int:
    """Print the current version of every task, and what is served instead of it."""
    snapshot = store.snapshot()
    traffic = {task: found for task, found in snapshot.traffic.items() if found.active}
    orders = {**traffic, **snapshot.holds}  # a hold goes before traffic
    problems = snapshot.problems + snapshot.unreadable
    if options.json:
        print_json(
            {
                "tasks": [version_fields(version) for version in snapshot.current.values()],
                "traffic": {task: found.model_dump(mode="json") for task, found in traffic.items()},
                "holds": {task: hold.model_dump(mode="json") for task, hold in snapshot.holds.items()},
                "problems": [dataclasses.asdict(problem) for problem in problems],
            }
        )
    else:
        rows = [
            (
                *(v.task, str(v.number), human_bytes(v.size), f"{v.published:%Y-%m-%d %H:%M:%S}"),
                *(v.digest[:19], str(orders.get(v.task, ""))),
            )
            for v in snapshot.current.values()
        ]
        print_table(("task", "version", "size", "published (UTC)", "digest", "served instead"), rows)
        print_problems(problems)
    return 1 if problems else 0


def show(store: "MaskStore", options: argparse.Namespace) -> int:
    """Print one version of a task."""
    version = store.version(options.task, options.version)
    history, bundle = store.history(options.task), store.load(version)
    if options.json:
        print_json(
            {
                "version": version_fields(version),
                "current": history.current and history.current.number,
                "versions": [version_fields(v) for v in history.versions],
                "problems": [dataclasses.asdict(problem) for problem in history.problems],
                "manifest": bundle.manifest.model_dump(mode="json"),
                **_shares(bundle.manifest),
                "mask_bytes": bundle.manifest.mask_bytes,
                "head_bytes": bundle.manifest.head_bytes,
                "finetuned_bytes": bundle.manifest.finetuned_bytes,
            }
        )
        return 0
    current = history.current
    numbers = [f"{v.number} (current)" if v == current else str(v.number) for v in history.versions]
    for name, value in [*_describe(bundle, version), ("versions", ", ".join(numbers))]:
        print(f"{name:<11}{escape_controls(value)}")
    print_problems(history.problems)
    return 0


def _describe(bundle: "MaskBundle", version: "VersionInfo") -> Iterable[tuple[str, str]]:
    about, base = bundle.manifest, bundle.manifest.base
    revision = f"@{base.revision}" if base.revision else ""
    yield (
        "task",
        f"{about.task}, version {version.number}, published {version.published:%Y-%m-%d %H:%M:%S} UTC",
    )
    yield "digest", version.digest
    yield "kind", about.kind + (", pairs" if about.pair else "")
    if about.pooling:
        yield "embedding", _POOLED[about.pooling]
    else:
        yield "labels", ", ".join(about.labels) or "one score a choice"
    if about.thresholds:
        yield "thresholds", ", ".join(f"{threshold:.3g}" for threshold in about.thresholds)
    yield "base", f"{base.name}{revision}, {base.architecture}, {base.parameters:,} parameters"
    for part, digest in base.identity.items():
        yield "", f"{part} {digest}"
    if isinstance(about, EnsembleManifest):
        yield "ensemble", f"{_COMBINED[about.combine]} of {len(about.members)} members"
    if isinstance(about, SignManifest):
        bits = f"{about.mask_bits:,} bits in {len(about.layers)} layers"
        yield "signs", f"{bits if about.layers else 'none, as in the base'}, of {about.copied.name}"
        for rows in about.embeddings:
            count = f"{rows.columns - rows.zeros:,} of {rows.columns:,} rows of {rows.name}"
            yield "embeddings", f"{count}, {human_bytes(rows.nbytes)}"
    if isinstance(about, TaskManifest | EnsembleManifest):
        for key, info in about.learned.items():
            yield f"member {key.rstrip('.')}" if key else "masks", _describe_learned(info)
        yield "zeros", f"{about.initial_sparsity:.2%} before learning, {about.sparsity:.2%} after"
        yield "flipped", f"{about.flipped_share:.2%} of the bits"
    yield "metrics", _metrics(about.metrics) or _UNMEASURED[len(about.learned) > 1]
    if found := about.evaluation:
        sure = "" if found.calibration_error is None else f"; calibration error {found.calibration_error:.4g}"
        answer = f"{found.baseline_answer} has {found.metric} {found.baseline:.4g}"
        yield "dev set", f"{found.examples:,} rows; {answer}{sure}"
    copies = "a finetuned copy" if len(about.learned) == 1 else f"{len(about.learned)} finetuned copies"
    yield "file", f"{human_bytes(version.size)}; {copies} would take {human_bytes(about.finetuned_bytes)}"
    memory = f"{human_bytes(about.mask_bytes)} of packed masks, {human_bytes(about.head_bytes)} of head"
    if isinstance(about, SignManifest):
        memory += f", {human_bytes(about.sign_bytes)} of scales, biases, LayerNorms and embeddings"
    yield "memory", memory


def _shares(manifest: Manifest) -> dict[str, float]:
    """Return the shares of a mask's bits; signs have none that says anything."""
    if not isinstance(manifest, LearnedMasks):
        return {}
    return {"sparsity": manifest.sparsity, "flipped": manifest.flipped_share}


def _describe_learned(info: LearnedInfo) -> str:
    masks = f"{info.mask_bits:,} bits in {len(info.layers)} layers, head {info.masking.head}"
    if not isinstance(info, MemberInfo):
        return masks
    place = f"version {info.version}" if info.version else "learned for the ensemble"
    source = f"{info.task} {place}, {info.digest[:19]}, seed {info.seed}"
    return f"{source}; {masks}; zeros {info.sparsity:.2%}; {_metrics(info.metrics)}"


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def verify(store: "MaskStore", options: argparse.Namespace) -> int:
    """Read and check every version."""
    problems = store.verify(options.task)
    if options.json:
        print_json({"problems": [dataclasses.asdict(problem) for problem in problems]})
    elif problems:
        print_problems(problems)
    else:
        print("no problems found")
    return 1 if problems else 0


def diff(store: "MaskStore", options: argparse.Namespace) -> int:
    """Print what changed between two versions."""
    diff = store.diff(options.task, options.a, options.b)
    if options.json:
        print_json({"differing": diff.differing, **dataclasses.asdict(diff)})
    else:
        _print_diff(diff, options.a, options.b)
    return 0


def _print_diff(diff: "BundleDiff", a: int, b: int) -> None:
    rows = [
        (
            layer.name,
            f"{layer.bits:,}",
            "-" if layer.differing is None else f"{layer.differing:,}",
            _share(layer.sparsity_a),
            _share(layer.sparsity_b),
        )
        for layer in diff.layers
    ]
    print_table(("layer", "bits", "differing", f"zeros in {a}", f"zeros in {b}"), rows)
    metrics = [(name, _number(left), _number(right)) for name, (left, right) in diff.metrics.items()]
    print_table(("metric", f"version {a}", f"version {b}"), metrics)
    for what, same in (
        ("base", diff.same_base),
        ("labels", diff.same_labels),
        ("head", diff.same_head),
        ("combination of members", diff.same_combine),
    ):
        print(f"{what}: {'the same' if same else 'differs'}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
