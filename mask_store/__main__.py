"""The command line of a store: python -m mask_store --store DIR COMMAND.

The commands are list, show, verify, clean, rollback, delete, diff and ensemble. Tables for people, or one
JSON document with --json. Exit status: 0 done, 1 a problem was found or the operation failed (one line on
stderr says why), 2 the command was not understood.
"""

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from mask_store.errors import MaskStoreError, NotAFileError, RecordError, UnknownTaskError
from mask_store.format.manifest import (
    MAX_MEMBERS,
    MIN_MEMBERS,
    CombineRule,
    EnsembleManifest,
    Manifest,
    MemberInfo,
    SignManifest,
    TaskManifest,
)
from mask_store.format.mask_info import LearnedInfo, LearnedMasks
from mask_store.messages import escape_controls
from mask_store.sizes import human_bytes
from mask_store.terminal import CommandParser, escape_missing_letters

if TYPE_CHECKING:
    from mask_store.format.bundle import MaskBundle
    from mask_store.format.diff import BundleDiff
    from mask_store.store.records import VersionInfo
    from mask_store.store.store import MaskStore

_EXAMPLES = """examples:
  python -m mask_store --store masks list                        what is there
  python -m mask_store --store masks show trec                   what the current version is and has learned
  python -m mask_store --store masks verify                      read and check every version of every task
  python -m mask_store --store masks clean                       remove what killed publishes left behind
  python -m mask_store --store masks rollback trec               back to the version before the current one
  python -m mask_store --store masks rollback trec --version 3   back (or forward) to version 3
  python -m mask_store --store masks diff trec 3 4               what changed from version 3 to 4
  python -m mask_store --store masks delete trec --version 2     delete one version that is not current
  python -m mask_store --store masks delete trec --all-versions  delete the task
  python -m mask_store --store masks ensemble trec-3 --combine probabilities trec@1 trec@2 trec@3
                                                                 a task that three versions answer together
  python -m mask_store --store s3://bucket/masks list --json     any URL that fsspec knows; JSON for programs

A running server follows the store: what is rolled back or deleted here is so there within seconds."""

_COMBINED: Mapping[CombineRule, str] = {
    "labels": "vote of the labels",
    "logits": "mean of the logits",
    "probabilities": "mean of the probabilities",
}
_UNMEASURED = {False: "not measured", True: "not measured for the members together"}


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m mask_store") -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; those of the process if None.
        prog: The program's name, for `--help`.

    Returns:
        The exit status: 0 or 1. A command that is not understood raises SystemExit(2).
    """
    escape_missing_letters()
    options = _parser(prog).parse_args(argv)
    from mask_store.store.store import MaskStore  # noqa: PLC0415 (NumPy and fsspec, which --help need not)

    try:
        store = MaskStore.open(options.store)
        status: int = options.run(store, options)
    except UnknownTaskError as error:
        print(f"error: {error}; `list` shows the tasks there are", file=sys.stderr)
        return 1
    except MaskStoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=prog,
        description="Look at a store of masks, check it, and choose which version of a task is served.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", required=True, metavar="DIR", help="folder of the store, or an fsspec URL")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _command(commands, "list", _list, "current version of every task")
    show = _command(commands, "show", _show, "one version of a task: labels, base, sparsity, metrics, sizes")
    _task_and_version(show, "default: the current one")
    verify = _command(commands, "verify", _verify, "read and check every version; exit 1 if any is broken")
    verify.add_argument("task", nargs="?", help="only this task")
    _command(commands, "clean", _clean, "remove what publishes that were killed left behind")
    rollback = _command(commands, "rollback", _rollback, "make another version the current one")
    _task_and_version(rollback, "default: the newest before the current one with other contents")
    delete = _command(commands, "delete", _delete, "delete a version that is not current, or a whole task")
    delete.add_argument("task")
    which = delete.add_mutually_exclusive_group(required=True)
    which.add_argument("--version", type=int, metavar="N", help="delete this version")
    which.add_argument("--all-versions", action="store_true", help="delete the task with all its versions")
    diff = _command(commands, "diff", _diff, "what changed between two versions: bits, sparsity, metrics")
    diff.add_argument("task")
    diff.add_argument("a", type=int, help="number of one version")
    diff.add_argument("b", type=int, help="number of the other")
    _add_ensemble(commands)
    return parser


def _command(
    commands: Any, name: str, run: Callable[["MaskStore", argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)
    return parser


def _add_ensemble(commands: Any) -> None:
    ensemble = _command(commands, "ensemble", _ensemble, "publish a task that several masks answer together")
    ensemble.add_argument("task", metavar="NAME", help="task to publish the ensemble as")
    ensemble.add_argument(
        "--combine",
        required=True,
        choices=get_args(CombineRule),
        help="answer by the vote of the members' labels, the mean of their logits or of their probabilities",
    )
    ensemble.add_argument(
        "members",
        nargs="+",
        type=_member,
        metavar="MEMBER[@VERSION]",
        help=f"{MIN_MEMBERS} to {MAX_MEMBERS} tasks, each with the number of a version or the current one",
    )


def _task_and_version(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("task")
    parser.add_argument("--version", type=int, metavar="N", help=f"number of the version; {default}")


def _list(store: "MaskStore", options: argparse.Namespace) -> int:
    snapshot = store.snapshot()
    if options.json:
        _print_json(
            {
                "tasks": [_version_fields(version) for version in snapshot.current.values()],
                "problems": [dataclasses.asdict(problem) for problem in snapshot.problems],
            }
        )
    else:
        rows = [
            (v.task, str(v.number), human_bytes(v.size), f"{v.published:%Y-%m-%d %H:%M:%S}", v.digest[:19])
            for v in snapshot.current.values()
        ]
        _print_table(("task", "version", "size", "published (UTC)", "digest"), rows)
        _print_problems(snapshot.problems)
    return 1 if snapshot.problems else 0


def _show(store: "MaskStore", options: argparse.Namespace) -> int:
    version = store.version(options.task, options.version)
    history, current = store.history(options.task), _current(store, options.task)
    bundle = store.load(version)
    if options.json:
        _print_json(
            {
                "version": _version_fields(version),
                "current": current and current.number,
                "versions": [_version_fields(v) for v in history.versions],
                "problems": [dataclasses.asdict(problem) for problem in history.problems],
                "manifest": bundle.manifest.model_dump(mode="json"),
                **_shares(bundle.manifest),
                "mask_bytes": bundle.manifest.mask_bytes,
                "head_bytes": bundle.manifest.head_bytes,
                "finetuned_bytes": bundle.manifest.finetuned_bytes,
            }
        )
        return 0
    numbers = [f"{v.number} (current)" if v == current else str(v.number) for v in history.versions]
    for name, value in [*_describe(bundle, version), ("versions", ", ".join(numbers))]:
        print(f"{name:<11}{escape_controls(value)}")
    _print_problems(history.problems)
    return 0


def _current(store: "MaskStore", task: str) -> "VersionInfo | None":
    """Return the current version; None if the pointer to it is damaged."""
    try:
        return store.current(task)
    except (RecordError, NotAFileError):
        return None


def _describe(bundle: "MaskBundle", version: "VersionInfo") -> Iterable[tuple[str, str]]:
    about, base = bundle.manifest, bundle.manifest.base
    revision = f"@{base.revision}" if base.revision else ""
    yield (
        "task",
        f"{about.task}, version {version.number}, published {version.published:%Y-%m-%d %H:%M:%S} UTC",
    )
    yield "digest", version.digest
    yield "kind", about.kind + (", pairs" if about.pair else "")
    yield "labels", ", ".join(about.labels) or "one score a choice"
    if about.thresholds:
        yield "thresholds", ", ".join(f"{threshold:.3g}" for threshold in about.thresholds)
    yield "base", f"{base.name}{revision}, {base.architecture}, {base.parameters:,} parameters"
    for part, digest in base.identity.items():
        yield "", f"{part} {digest}"
    if isinstance(about, EnsembleManifest):
        yield "ensemble", f"{_COMBINED[about.combine]} of {len(about.members)} members"
    if isinstance(about, SignManifest):
        yield "signs", f"{about.mask_bits:,} bits in {len(about.layers)} layers, of {about.copied.name}"
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
        memory += f", {human_bytes(about.sign_bytes)} of scales, biases and LayerNorms"
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


def _verify(store: "MaskStore", options: argparse.Namespace) -> int:
    problems = store.verify(options.task)
    if options.json:
        _print_json({"problems": [dataclasses.asdict(problem) for problem in problems]})
    elif problems:
        _print_problems(problems)
    else:
        print("no problems found")
    return 1 if problems else 0


def _clean(store: "MaskStore", options: argparse.Namespace) -> int:
    removed = store.clean()
    if options.json:
        _print_json({"removed": removed})
    else:
        for path in removed:
            print(f"removed {path}")
        print(f"{len(removed)} files removed")
    return 0


def _rollback(store: "MaskStore", options: argparse.Namespace) -> int:
    done = store.rollback_and_load(options.task, options.version)
    if options.json:
        _print_json(
            {
                "current": _version_fields(done.version),
                "before": done.before and _version_fields(done.before),
                "problems": [dataclasses.asdict(problem) for problem in done.problems],
            }
        )
    else:
        before = f"version {done.before.number}" if done.before else "damaged"
        print(f"{done.version} is current now, before it was {before}")
        _print_problems(done.problems)
    return 0


def _delete(store: "MaskStore", options: argparse.Namespace) -> int:
    store.delete(options.task, options.version)
    if options.json:
        _print_json({"deleted": {"task": options.task, "number": options.version}})
    else:
        what = "with all its versions" if options.version is None else f"version {options.version}"
        print(f"deleted task {options.task!r} {what}")
    return 0


def _diff(store: "MaskStore", options: argparse.Namespace) -> int:
    diff = store.diff(options.task, options.a, options.b)
    if options.json:
        _print_json({"differing": diff.differing, **dataclasses.asdict(diff)})
    else:
        _print_diff(diff, options.a, options.b)
    return 0


def _ensemble(store: "MaskStore", options: argparse.Namespace) -> int:
    version = store.publish_ensemble(options.task, options.combine, options.members)
    if options.json:
        _print_json({"published": _version_fields(version)})
    else:
        print(
            f"published {version}, an ensemble of {len(options.members)} members, {human_bytes(version.size)}"
        )
    return 0


def _member(text: str) -> tuple[str, int | None]:
    """Read a task and the number of a version, or None, from "task" or "task@number"."""
    task, at, number = text.partition("@")
    if at and not (number.isascii() and number.isdigit()):
        raise argparse.ArgumentTypeError(f"expected TASK or TASK@NUMBER, found {text!r}")
    return task, int(number) if at else None


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
    _print_table(("layer", "bits", "differing", f"zeros in {a}", f"zeros in {b}"), rows)
    metrics = [(name, _number(left), _number(right)) for name, (left, right) in diff.metrics.items()]
    _print_table(("metric", f"version {a}", f"version {b}"), metrics)
    for what, same in (
        ("base", diff.same_base),
        ("labels", diff.same_labels),
        ("head", diff.same_head),
        ("combination of members", diff.same_combine),
    ):
        print(f"{what}: {'the same' if same else 'differs'}")


def _version_fields(version: "VersionInfo") -> dict[str, Any]:
    return dataclasses.asdict(version) | {"published": version.published.isoformat()}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _print_problems(problems: Iterable[Any]) -> None:
    for problem in problems:
        where = problem.task if problem.number is None else f"{problem.task} version {problem.number}"
        print(escape_controls(f"problem: {where}: {problem.message} ({problem.kind})"), file=sys.stderr)


def _print_table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    lines = [titles, *(tuple(map(escape_controls, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when `| head` has seen enough
    sys.exit(main())
