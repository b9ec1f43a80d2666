"""Table 8 and Figure 3: parameters and memory for a growing number of tasks (paper section 6.2). Exact.

Counted from the shape of the base and from a real bundle of random masks, whose size does not depend on the
bits. Counts what has to be kept for inference: the base once and, per task, masks and head, against one
finetuned copy per task. What a running server holds on top is in its own memory report, and measured by
`benchmarks`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.common.context import Context
from experiments.common.report import Result, Table, short_name
from experiments.paper import quotes as paper
from lab.paper_bases import base_of_shape
from lab.random_tasks import random_bundle
from masking.heads import CLASSIFIER

FLOAT_BYTES = 4
TABLE_TASKS = (1, 2, 3, 4)
FIGURE_TASKS = tuple(range(1, 13))
_KEPT = "the base once; per task its masks (1 bit a weight), and its frozen random head in fp32"
_SETTINGS = {"Masked": "blocks 2 to last, pooler, classifier of two classes"}
_ZEROS = 0.05  # bytes do not depend on it


@dataclass(frozen=True)
class Cost:
    """What a base and one task of two classes on it take.

    Attributes:
        parameters: Of the base.
        mask_bits: Of the masks without the classifier's.
        mask_bytes: The same, packed.
        classifier_bits: Of the classifier's mask.
        classifier_bytes: The same, packed.
        head_parameters: Of the head that is not part of the base; fp32.
    """

    parameters: int
    mask_bits: int
    mask_bytes: int
    classifier_bits: int
    classifier_bytes: int
    head_parameters: int

    @property
    def base_bytes(self) -> int:
        """Bytes of the base in fp32."""
        return FLOAT_BYTES * self.parameters

    @property
    def head_bytes(self) -> int:
        """Bytes of the head in fp32."""
        return FLOAT_BYTES * self.head_parameters

    @property
    def masked_task_bytes(self) -> int:
        """Bytes that one more masked task takes."""
        return self.mask_bytes + self.classifier_bytes + self.head_bytes

    def finetuned_parameters(self, tasks: int) -> int:
        """Return the parameters of a finetuned copy for each task."""
        return tasks * (self.parameters + self.head_parameters)

    def masked_parameters(self, tasks: int) -> int:
        """Return the parameters of the base and the tasks' heads; masks are counted in bits."""
        return self.parameters + tasks * self.head_parameters

    def masked_bits(self, tasks: int) -> int:
        """Return the bits of all masks of the tasks."""
        return tasks * (self.mask_bits + self.classifier_bits)

    def finetuned_bytes(self, tasks: int) -> int:
        """Return the bytes of a finetuned copy for each task."""
        return FLOAT_BYTES * self.finetuned_parameters(tasks)

    def masked_bytes(self, tasks: int) -> int:
        """Return the bytes of the base and the tasks' masks and heads."""
        return self.base_bytes + tasks * self.masked_task_bytes


def count(base_name: str) -> Cost:
    """Count a base by its name, see `base_of_shape`; masks are those of the paper, blocks 2 to last."""
    base = base_of_shape(base_name)
    bundle = random_bundle(base, "task", _ZEROS, seed=0)
    (member,) = bundle.members
    bits = {layer.name: layer.bits for layer in member.info.layers}
    sizes = {name: packed.nbytes for name, packed in member.masks.items()}
    return Cost(
        parameters=base.info.parameters,
        mask_bits=sum(bits.values()) - bits[CLASSIFIER],
        mask_bytes=sum(sizes.values()) - sizes[CLASSIFIER],
        classifier_bits=bits[CLASSIFIER],
        classifier_bytes=sizes[CLASSIFIER],
        head_parameters=sum(tensor.size for tensor in member.head.values()),
    )


def table8(context: Context) -> Result:
    """Count parameters and memory: the parts, and what a growing number of tasks takes."""
    costs = {short_name(name): count(name) for name in context.bases}
    tables = [table for name, cost in costs.items() for table in (_parts(name, cost), _growth(name, cost))]
    return Result(
        title="Table 8: parameters and memory",
        tables=tables,
        values={name: _values(cost, TABLE_TASKS) for name, cost in costs.items()},
        settings=_SETTINGS,
        notes=["KB are decimal, as in the paper.", f"Kept for masking: {_KEPT}."],
        exact=True,
    )


def figure3(context: Context) -> Result:
    """Count memory against the number of tasks, and from how many on masking takes less."""
    costs = {short_name(name): count(name) for name in context.bases}
    return Result(
        title="Figure 3: memory against the number of tasks",
        tables=[_growth(name, cost, FIGURE_TASKS) for name, cost in costs.items()],
        values={name: _values(cost, FIGURE_TASKS) for name, cost in costs.items()},
        settings=_SETTINGS,
        notes=[
            f"{name}: masking takes less from {break_even(cost)} tasks on." for name, cost in costs.items()
        ],
        draw=lambda figure: _draw(figure, costs),
        exact=True,
    )


def break_even(cost: Cost) -> int:
    """Return the smallest number of tasks whose masks take less than their finetuned copies."""
    saved = cost.finetuned_bytes(1) - cost.masked_task_bytes
    return cost.base_bytes // saved + 1


def _parts(name: str, cost: Cost) -> Table:
    rows = [
        ("base", f"{cost.parameters:,} parameters, fp32", cost.base_bytes, "base"),
        ("masks of a task, blocks and pooler", f"{cost.mask_bits:,} bits", cost.mask_bytes, "masks"),
        ("mask of its classifier", f"{cost.classifier_bits:,} bits", cost.classifier_bytes, "classifier"),
        ("head of a task, fp32", f"{cost.head_parameters:,} parameters", cost.head_bytes, "head"),
    ]
    cells = [
        [part, amount, f"{size:,}", _kilobytes(size), paper.quote("table8", name, key)]
        for part, amount, size, key in rows
    ]
    return Table(["part", "amount", "bytes", "KB", "paper"], cells, f"{name}, parts")


def _growth(name: str, cost: Cost, tasks: Sequence[int] = TABLE_TASKS) -> Table:
    head = ["tasks", "finetuning: parameters", "KB", "masking: parameters", "mask bits", "KB", "ratio of KB"]
    cells = [
        [
            str(n),
            f"{cost.finetuned_parameters(n):,}",
            _kilobytes(cost.finetuned_bytes(n)),
            f"{cost.masked_parameters(n):,}",
            f"{cost.masked_bits(n):,}",
            _kilobytes(cost.masked_bytes(n)),
            f"{cost.finetuned_bytes(n) / cost.masked_bytes(n):.2f}",
        ]
        for n in tasks
    ]
    return Table(head, cells, f"{name}, growing number of tasks")


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.3f}"


def _values(cost: Cost, tasks: Sequence[int]) -> dict[str, Any]:
    return {
        "cost": asdict(cost) | {"base_bytes": cost.base_bytes, "head_bytes": cost.head_bytes},
        "break_even": break_even(cost),
        "tasks": [
            {
                "tasks": n,
                "finetuning_parameters": cost.finetuned_parameters(n),
                "finetuning_bytes": cost.finetuned_bytes(n),
                "masking_parameters": cost.masked_parameters(n),
                "masking_bits": cost.masked_bits(n),
                "masking_bytes": cost.masked_bytes(n),
            }
            for n in tasks
        ],
    }


def _draw(figure: Any, costs: dict[str, Cost]) -> None:
    axes = figure.add_subplot()
    for index, (name, cost) in enumerate(costs.items()):
        style = {"color": f"C{index}", "marker": "o", "markersize": 3}
        finetuned = [cost.finetuned_bytes(n) / 1e6 for n in FIGURE_TASKS]
        masked = [cost.masked_bytes(n) / 1e6 for n in FIGURE_TASKS]
        axes.plot(FIGURE_TASKS, finetuned, linestyle="--", label=f"{name}, finetuning", **style)
        axes.plot(FIGURE_TASKS, masked, label=f"{name}, masking", **style)
        axes.axvline(break_even(cost), color=f"C{index}", linewidth=0.8, linestyle=":")
    axes.set_xticks(FIGURE_TASKS)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tasks (dotted: from here on masking takes less)")
    axes.set_ylabel("memory, MB (10^6 bytes)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
