"""Doctor: the command that tells what this machine can compute, and whether it computes it right."""

import argparse
import json
import math
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from mask_store.terminal import CommandParser, escape_missing_letters

if TYPE_CHECKING:
    from masking.kernels.self_check import KernelCheck

_PACKAGES = ("maskserve", "torch", "transformers", "numba", "llvmlite", "triton")
_SECONDS = 10.0
_ROWS = {
    "packed": "packed: attention is computed row by row, nothing else sees where a row ends",
    "padded": "padded to the longest: its attention can't be replaced",
}
_DESCRIPTION = """Tell what this machine can compute, and check it, in ten seconds.

Printed are the processor with the instruction sets that matter here, versions, CUDA device, compute
threads, the folder of compiled kernels, and for each precision of serve --precision

  kernel     what computes masked layers: numba on a CPU, Triton on a GPU, else torch on a masked copy of the
             weight for each task of a batch; or what the machine lacks
  auto       beside the precision that --precision auto takes
  error      of a random layer under random masks: largest difference to float64 over the largest result
  GFLOP/s    of 512 tokens of 7 tasks by 768 x 768 weights, and of torch's own product without masks beside
             it, with one thread and with as many as the server takes; on a machine at work they vary

With --base it also tells what of an encoder is masked, and whether rows of a batch lie without padding.

Kernels that were never compiled on this machine are compiled first, which takes half a minute more."""
_EPILOG = """exit status:
  0  what should run here runs, and is right
  1  a kernel gives wrong results, or can't be used although the processor has its instructions or the
     device its package; or the encoder can't be used; what to do is printed
  2  the command was not understood

examples:
  maskserve doctor                                  before serving on a new machine, or if serving is slow
  maskserve doctor --json > doctor.json             for a report, or to compare machines
  maskserve doctor --base microsoft/deberta-v3-base what masks apply to in an encoder
  NUMBA_CPU_FEATURES=+avx2,+fma maskserve doctor    as on an older processor"""


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m maskserve doctor") -> int:
    """Examine this machine.

    Args:
        arguments: The command line without the program's name; None for the process's own.
        prog: The program's name, for its help and messages.

    Returns:
        0, or 1 if a kernel that should work does not. A command that is not understood raises SystemExit(2).
    """
    parser = CommandParser(
        prog=prog,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument("--base", metavar="NAME", help="folder or hub id of an encoder to look at, too")
    options = parser.parse_args(arguments)
    return run_apart(prog, _child, options.json, options.base)


def run_apart(prog: str, function: Callable[..., object], *arguments: object) -> int:
    """Run a function of a module in a process of its own: a kernel or a compiler may end the process.

    Args:
        prog: The program's name, for messages.
        function: It ends with `sys.exit`.
        arguments: For the function; can be pickled.

    Returns:
        The process's exit code; 1 if a signal ended it, which is told on stderr.
    """
    process = get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    code = process.exitcode
    if code is None or code >= 0:
        return code or 0
    print(
        f"{prog}: {signal.Signals(-code).name} ended the check. The processor, or what emulates it, may lack "
        "instructions that it announces: narrow them by NUMBA_CPU_FEATURES, as in --help, or serve with "
        "--kernels off",
        file=sys.stderr,
    )
    return 1


def _child(as_json: bool, base: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent tells of it
    escape_missing_letters()
    sys.exit(examine(as_json, base))


def examine(as_json: bool, base: str | None = None) -> int:
    """Examine this machine in this process, and an encoder; print the report, return the exit code."""
    from server.threads.compute import leave_cores_free  # noqa: PLC0415 (only here)

    leave_cores_free()  # before torch is imported, whose threads the check has as the server has them
    from masking.kernels.self_check import self_check  # noqa: PLC0415 (torch: not for --help)

    facts = machine_facts()
    facts |= {} if base is None else {"base": base_facts(base)}
    if not as_json:
        print("\n".join(_lines(facts)), flush=True)
    checks = []
    for check in self_check(_SECONDS):
        checks.append(check)
        if not as_json:
            print(_row(check, facts["auto"]), flush=True)
    advice = [_advice(check) for check in checks if check.problem]
    advice += [facts["base"]["problem"]] if facts.get("base", {}).get("problem") else []
    if as_json:
        found = [{**asdict(check), "speeds": [one._asdict() for one in check.speeds]} for check in checks]
        for one in found:
            one["error"] = one["error"] if one["error"] is None or math.isfinite(one["error"]) else None
        print(json.dumps({**facts, "checks": found, "ok": not advice, "advice": advice}, indent=2))
    else:
        print("\n" + "\n".join([*_notes(facts), *(advice or ["What should run here runs, and is right."])]))
    return 1 if advice else 0


def machine_facts() -> dict[str, Any]:
    """Return processor, versions, device, threads, cache and choices; torch gets the server's threads."""
    import torch  # noqa: PLC0415 (not for --help)

    from masking.kernels import available, choose_precision, costs, without_lines  # noqa: PLC0415
    from masking.kernels.cpu.processor import instruction_sets, processor_name  # noqa: PLC0415
    from masking.kernels.self_check import kernel_folder  # noqa: PLC0415
    from masking.kernels.trials import installed  # noqa: PLC0415
    from server.threads.compute import allowed_threads, cpu_quota  # noqa: PLC0415

    threads = allowed_threads(torch.get_num_threads())
    torch.set_num_threads(threads)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    folder, most = kernel_folder(), math.inf
    if available() and without_lines("fp32", torch.device("cpu")):
        most = costs().kernel_up_to()
    return {
        "processor": processor_name(),
        "instruction_sets": list(instruction_sets()),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) if installed(name) else None for name in _PACKAGES},
        },
        "cuda": _cuda(torch.cuda) if len(devices) > 1 else None,
        "threads": {"cores": _cores(), "quota": cpu_quota(), "server": threads},
        "kernel_folder": None if folder is None else str(folder),
        "auto": {device: choose_precision("auto", torch.device(device)) for device in devices},
        "folded_from_tokens": None if math.isinf(most) else int(most) + 1,
    }


def base_facts(name: str) -> dict[str, Any]:
    """Load an encoder and return what masks apply to in it, or what is wrong with it."""
    from masking import MaskingError, load_base  # noqa: PLC0415 (torch)
    from masking.inference.packing import can_pack  # noqa: PLC0415

    try:
        base = load_base(name)
    except MaskingError as error:
        return {"name": name, "problem": str(error)}
    return {
        "name": name,
        "architecture": base.info.architecture,
        "parameters": base.info.parameters,
        "masked": base.blocks.describe(),
        "rows": "packed" if can_pack(base) else "padded",
        "problem": None,
    }


def _cuda(cuda: Any) -> dict[str, object]:
    device = cuda.get_device_properties(cuda.current_device())
    return {"name": device.name, "capability": f"{device.major}.{device.minor}", "bytes": device.total_memory}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """Write the facts, and the head of the table of checks."""
    versions, threads, cuda = facts["versions"], facts["threads"], facts["cuda"]
    quota = "no CPU quota" if threads["quota"] is None else f"a CPU quota of {threads['quota']:g}"
    told = {
        "processor": facts["processor"],
        "instruction sets": ", ".join(facts["instruction_sets"])
        or ("none that matter" if versions["numba"] else "not known without numba"),
        "versions": ", ".join(f"{name} {one or 'not installed'}" for name, one in versions.items()),
        "CUDA device": f"{cuda['name']} (capability {cuda['capability']})" if cuda else "none",
        "threads": f"{threads['server']} for the server; {threads['cores']} cores, {quota}",
        "compiled kernels": facts["kernel_folder"] or "not kept, compiled at each start",
    }
    if not versions["numba"]:
        told["compiled kernels"] = "none without numba"
    if (base := facts.get("base")) is not None:
        found = "can't be used" if base["problem"] else f"{base['architecture']}, {base['masked']}"
        told["base"] = f"{base['name']}: {found}"
        told |= {} if base["problem"] else {"rows of a batch": _ROWS[base["rows"]]}
    yield from (f"{name + ':':<18}{one}" for name, one in told.items())
    speeds = [f"{_threads(count)} (torch)" for count in sorted({1, threads["server"]})]
    yield f"\n{'device':<8}{'precision':<14}{'kernel':<24}{'error':<10}GFLOP/s {', '.join(speeds)}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _row(check: "KernelCheck", auto: dict[str, str]) -> str:
    name = check.precision + (" (auto)" if auto[check.device] == check.precision else "")
    head = f"{check.device:<8}{name:<14}"
    if check.missing or check.problem:
        return head + (check.missing or f"{check.kernel:<24}{check.problem}")
    speeds = ", ".join(f"{one.kernel:.0f} ({one.torch:.0f})" for one in check.speeds)
    return f"{head}{check.kernel:<24}{check.error:<10.0e}{speeds}"


def _notes(facts: dict[str, Any]) -> Iterator[str]:
    """Say what is slower than it could be, and by whom long segments are computed."""
    if not facts["versions"]["numba"]:
        yield "Without numba masked layers are slow: pip install 'maskserve[serve]'."
    elif facts["folded_from_tokens"] is not None:
        yield (
            f"In fp32 torch computes tasks of {facts['folded_from_tokens']} or more tokens of a batch, on a "
            "masked copy of the weight: it is faster there, as measured just now."
        )
    if facts["cuda"] and not facts["versions"]["triton"]:
        yield "Without Triton masked layers are slow on the GPU: pip install triton."


def _advice(check: "KernelCheck") -> str:
    """Say what to do about a kernel that should work and does not."""
    package = "triton" if check.device == "cuda" else "numba"
    without = "--kernels off" if check.precision == "fp32" else "--precision fp32"
    if check.error is None:
        what = f"Install newer packages (pip install -U {package}) and run this again"
    elif check.device == "cpu":
        what = "Run this again with NUMBA_CACHE_DIR set to an empty folder, so that kernels are compiled anew"
    else:
        what = "Run this again with another version of triton"
    return (
        f"{check.device} {check.precision}: {check.problem}. {what}; if it stays so, serve "
        f"with {without}, and report it with what --json prints."
    )
