"""Training step: learning a mask against step of finetuning: forward, loss, backward, Adam, zero_grad.

Both see the same random batch without padding and take turns, in fp32 and under bf16 autocast. Peak memory is
that of a process of its own for each method, in fp32. Weights are random unless `--base` names pretrained
ones: time and memory don't depend on their values.
Reading data, evaluation and checkpoints are not measured.
"""

import argparse
import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from torch import nn

from benchmarks.measure.timing import Times, take_turns
from lab.random_models import add_model_arguments, random_base
from lab.tables import markdown_table, write_report
from masking import Base, FinetunedModel, MaskedModel, MaskSettings, TaskModel, TaskSpec, load_base
from training.kinds import TRAINING_KINDS
from training.loop.optimizer import adam

METHODS = MASKED, FINETUNED = "masked", "finetuned"
BF16 = " bf16"  # follows the method's name
LR = 5e-5
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        base: Id or folder of a pretrained encoder; None for random weights.
        shape: Key of `lab.random_models.SHAPES`, for random weights.
        blocks: Blocks to mask, as `training.learn_mask` takes them.
        batch: Examples in a batch.
        tokens: Tokens of each.
        threads: Threads of torch.
        device: "cpu" or "cuda".
    """

    base: str | None
    shape: str
    blocks: str
    batch: int
    tokens: int
    threads: int
    device: str

    def __str__(self) -> str:
        """Describe the setting in one line."""
        base = self.base or f"{self.shape} shape, random weights"
        size = f"{self.batch} x {self.tokens} tokens, blocks {self.blocks}"
        return f"{base}; {size}; {self.device}, threads: {self.threads}"


@dataclass(frozen=True)
class Memory:
    """Bytes that a process holds: resident ones on CPU, torch's on a GPU.

    Attributes:
        libraries: Before there is a model.
        built: With the model, before the first step.
        peak: At most during two steps; the second finds Adam's moments in place.
    """

    libraries: int
    built: int
    peak: int


class Step:
    """A training step that can be repeated."""

    def __init__(self, setting: Setting, base: Base, method: str, *, bf16: bool = False) -> None:
        """Build the model, its optimizer and a batch that is the same for every method."""
        self.bf16 = bf16
        self.model = _build(setting, base, method).train()
        generator = torch.Generator().manual_seed(0)
        vocabulary, size = base.encoder.config.vocab_size, (setting.batch, setting.tokens)
        ids = torch.randint(vocabulary, size, generator=generator).to(base.device)
        self.batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        self.targets = torch.randint(2, (setting.batch,), generator=generator).to(base.device)
        self.optimizer = adam(self.model.trainable().values(), LR)

    def __call__(self) -> None:
        """Learn from the batch once."""
        with torch.autocast(self.targets.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(self.batch)
            kind = TRAINING_KINDS[self.model.spec.kind]
            loss = kind.loss(logits, self.targets, (), len(self.targets))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if logits.is_cuda:
            torch.cuda.synchronize()


def open_base(setting: Setting) -> Base:
    """Return the pretrained base that the setting names, or one of its shape with random weights."""
    if setting.base is not None:
        return load_base(setting.base, device=setting.device)
    base = random_base(setting.shape)
    modules: list[nn.Module] = [base.encoder] if base.pooler is None else [base.encoder, base.pooler]
    for module in modules:
        module.to(setting.device)
    return base


def _build(setting: Setting, base: Base, method: str) -> TaskModel:
    spec = TaskSpec("sequence-classification", ("no", "yes"), max_length=setting.tokens)
    if method == FINETUNED:
        return FinetunedModel.create(base, spec, seed=0)
    return MaskedModel.create(base, spec, MaskSettings(blocks=setting.blocks), seed=0)


def measure_times(setting: Setting, runs: int) -> dict[str, Times]:
    """Measure the steps of both methods in both precisions, which all take turns in this process."""
    before = torch.get_num_threads()
    torch.set_num_threads(setting.threads)
    base = open_base(setting)
    steps = {
        method + name: Step(setting, base, method, bf16=bool(name))
        for method in METHODS
        for name in ("", BF16)
    }
    times = take_turns(steps, runs)
    torch.set_num_threads(before)
    return times


def measure_memory(setting: Setting) -> dict[str, Memory]:
    """Measure each method's memory in a fresh process; empty on CPU where the system has no /proc."""
    if setting.device == "cpu" and not STATUS.exists():
        return {}
    measured = {}
    for method in METHODS:
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            measured[method] = fresh.submit(_memory, setting, method).result()
    return measured


def _memory(setting: Setting, method: str) -> Memory:
    torch.set_num_threads(setting.threads)
    now, peak, reset = _cuda_meter() if setting.device == "cuda" else _process_meter()
    libraries = now()
    step = Step(setting, open_base(setting), method)
    if method == FINETUNED:
        del step.model.base  # finetuning alone keeps no base next to its copy
    gc.collect()
    built = now()
    reset()
    step()
    step()
    return Memory(libraries, built, peak())


Meter = tuple[Callable[[], int], Callable[[], int], Callable[[], None]]


def _cuda_meter() -> Meter:
    cuda = torch.cuda
    return cuda.memory_allocated, cuda.max_memory_allocated, cuda.reset_peak_memory_stats


def _process_meter() -> Meter:
    def field(name: str) -> int:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    def reset() -> None:
        with suppress(OSError):  # without the right to, building the model counts too
            STATUS.with_name("clear_refs").write_text("5")

    return lambda: field("VmRSS"), lambda: field("VmHWM"), reset


def table(times: dict[str, Times], memory: dict[str, Memory]) -> str:
    """Write a Markdown table of both methods and their ratios."""
    rows = [
        ("fastest step, s", {m: times[m].best for m in METHODS}),
        ("median step, s", {m: median(times[m].wall) for m in METHODS}),
        ("median step, CPU s", {m: median(times[m].cpu) for m in METHODS}),
        ("bf16: fastest step, s", {m: times[m + BF16].best for m in METHODS}),
        ("bf16 over fp32, fastest", {m: times[m + BF16].best / times[m].best for m in METHODS}),
    ]
    if memory:
        rows += [
            ("peak memory, MB", {m: one.peak / 1e6 for m, one in memory.items()}),
            ("... less libraries", {m: (one.peak - one.libraries) / 1e6 for m, one in memory.items()}),
            ("... less the built model", {m: (one.peak - one.built) / 1e6 for m, one in memory.items()}),
        ]
    cells = []
    for name, row in rows:
        ours, theirs = row[MASKED], row[FINETUNED]
        cells.append([name, f"{ours:.4g}", f"{theirs:.4g}", f"{ours / theirs:.3f}"])
    return markdown_table(["", MASKED, FINETUNED, "ratio"], cells)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's arguments."""
    add_model_arguments(parser)
    parser.add_argument("--blocks", default="2-", help="blocks to mask, like 2-, 2-11 or 0,3,8-11")
    parser.add_argument("--batch", type=int, default=32, help="examples in a batch")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an example")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--runs", type=int, default=5, help="steps of each method")
    parser.add_argument("--json", type=Path, help="file to write the results to")


def main(arguments: argparse.Namespace) -> int:
    """Measure memory, then time, print the table, write the JSON; return the exit code."""
    setting = Setting(**{field.name: getattr(arguments, field.name) for field in fields(Setting)})
    memory = measure_memory(setting)
    times = measure_times(setting, arguments.runs)
    print(f"{setting}; runs: {arguments.runs}\n\n{table(times, memory)}")
    write_report(
        arguments,
        "training_step",
        setting=asdict(setting),
        gpu=torch.cuda.get_device_name() if setting.device == "cuda" else None,
        ratios=times[MASKED].ratios(times[FINETUNED]),
        times={method: asdict(one) for method, one in times.items()},
        memory={method: asdict(one) for method, one in memory.items()},
    )
    return 0
