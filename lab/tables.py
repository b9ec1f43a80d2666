"""Tables and reports of benchmarks: Markdown and JSON."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from lab.machine import describe_machine

_PEERS = ("peft", "polylora", "onnx", "onnxruntime", "openvino", "nncf")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def ratio_cells(result: Mapping[str, object], names: Iterable[str]) -> list[str]:
    """Write ratios of the fastest runs, of the medians in brackets; why one was skipped."""
    ratios, skipped = result["ratios"], result["skipped"]
    assert isinstance(ratios, dict) and isinstance(skipped, dict)
    cells = {name: f"{one['min']:.2f} ({one['median']:.2f})" for name, one in ratios.items()}
    return [(cells | skipped).get(name, "") for name in names]


def write_report(arguments: argparse.Namespace, benchmark: str, **contents: object) -> dict[str, object]:
    """Return what was measured, with the machine; write it to the file that `--json` names, if any."""
    report = {"benchmark": benchmark, "machine": describe_machine(), "peers": _peers(), **contents}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return report


def _peers() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in _PEERS:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions
