"""Table 8 and Figure 3: parameters and memory for a growing number of tasks (paper, appendix D.2). Exact.

Counted from the shape of the base by the paper's rules: a classifier is its weights, without bias; the first
finetuned model is the pretrained copy; tasks with as many outputs share the random classifier; every task has
mask bits of blocks 2 to last and of the pooler. The bytes of this project's own bundles, which have biases, a
classifier each and entropy-coded bits, and no pooler for taggers, stand beside as another count.
"""

from collections.abc import Mapping
from functools import cache
from itertools import accumulate
from typing import Any

from experiments.common.context import Context
from experiments.common.drawing import METHOD_COLORS, clear
from experiments.common.report import Result, Table, short_name
from experiments.common.runs import FLOAT_BYTES
from experiments.common.tasks import TASKS
from experiments.published.facts import (
    BERT,
    FACTS,
    NOT_PRINTED,
    Addends,
    Method,
    Size,
    Table8,
    Unit,
    paper_base,
)
from experiments.published.figures import F3, first_lower
from experiments.published.rules import Verdict
from experiments.published.tables import T2C, T8
from lab.paper_bases import base_of_shape
from lab.random_models import masked_linears
from lab.random_tasks import Classifier, random_bundle
from mask_store import TaskKind
from masking import Base
from masking.tasks import MODEL_KINDS

UNITS: tuple[Unit, ...] = ("parameters", "kilobytes")
METHOD_ORDER: tuple[Method, ...] = ("finetuning", "masking")
_KILOBYTE = 1000
_MODELS = 4
_MASK_BYTES = 1 / 8
_SETTINGS = {"Masked": "blocks 2 to last, pooler, classifier", "Tasks": "the paper's eleven, in its order"}
_OWN_BUNDLES = (
    "Base and own bundles: another count, of this project's files: entropy-coded bits (5 % zeros), a "
    "classifier with bias for each task, no pooler mask for taggers."
)
_RANDOM_POOLER = "its random pooler counts with the first classifier, and is shared by the tasks"


def count(base: Base) -> Table8:
    """Count the paper's eleven tasks on a base by the paper's rules.

    Args:
        base: The encoder; its tensors need no values.
    """
    width, linears = base.hidden_size, masked_linears(base).values()
    mask = sum(linear.weight.numel() for linear in linears) + width * width
    pooler = width * width if base.pooler is None else 0
    added: dict[str, dict[Method, dict[Unit, Addends]]] = {}
    seen: set[int] = set()
    for task in FACTS.setup.tasks:
        outputs = TASKS[task].outputs
        own = width * outputs
        copy = base.info.parameters if added else 0
        drawn = (0 if outputs in seen else own) + (0 if added else pooler)
        added[task] = {
            "finetuning": _in_units(classifier=own + pooler, copy_of_base=copy),
            "masking": _in_units(classifier=drawn, mask=mask, classifier_mask=own),
        }
        seen.add(outputs)
    parameters = base.info.parameters
    held: dict[Unit, float] = {
        "parameters": parameters,
        "kilobytes": FLOAT_BYTES * parameters / _KILOBYTE,
    }
    return Table8(pretrained=held, added=added)


def megabytes(counted: Table8) -> dict[Method, dict[Size, float]]:
    """Return the memory of Table 2: the encoder and one set of masks or four, and one copy or four."""
    base = counted.pretrained["kilobytes"] / _KILOBYTE
    mask = next(iter(counted.added.values()))["masking"]["kilobytes"].mask / _KILOBYTE
    return {
        "masking": {"single": base + mask, "ensemble": base + _MODELS * mask},
        "finetuning": {"single": base, "ensemble": _MODELS * base},
    }


def table8(context: Context) -> Result:
    """Count what each task adds, addend for addend, and what all take together."""
    counts = _counts(context)
    bundles = {name: own_bundles(base_of_shape(name)) for name in context.bases}
    tables = [
        table
        for name, counted in counts.items()
        for table in (_addends(name, counted), _totals(name, counted, bundles[name]))
    ]
    return Result(
        title="Table 8: parameters and memory",
        tables=tables,
        values={
            short_name(name): _values(counted) | {"own_bundles_bytes": bundles[name]}
            for name, counted in counts.items()
        },
        settings=_SETTINGS,
        notes=[*_notes(counts), _OWN_BUNDLES],
        verdicts=_verdicts(counts, memory=True),
        exact=True,
    )


def figure3(context: Context) -> Result:
    """Draw parameters and memory against the number of tasks."""
    counts = _counts(context)
    return Result(
        title="Figure 3: parameters and memory against the number of tasks",
        tables=[_totals(name, counted) for name, counted in counts.items()],
        values={short_name(name): _values(counted) for name, counted in counts.items()},
        settings=_SETTINGS,
        notes=_notes(counts),
        verdicts=_verdicts(counts, memory=False),
        draw=lambda figure: _draw(figure, counts),
        exact=True,
    )


def own_bundles(base: Base) -> dict[str, int]:
    """Return the bytes of a bundle of this project for each task, with 5 % zeros, entropy-coded."""

    @cache
    def size(kind: TaskKind, outputs: int) -> int:
        labels = outputs if MODEL_KINDS[kind].labelled else 0
        bundle = random_bundle(
            base,
            "task",
            FACTS.setup.initial_sparsity,
            seed=0,
            compress=True,
            classifier=Classifier(kind, labels),
        )
        return len(bundle.to_bytes())

    return {task: size(TASKS[task].kind, TASKS[task].outputs) for task in FACTS.setup.tasks}


def _in_units(**weights: int) -> dict[Unit, Addends]:
    """Return addends in both units: weights in fp32, bits of masks packed."""
    factors = {"mask": _MASK_BYTES, "classifier_mask": _MASK_BYTES}
    kilobytes = {name: n * factors.get(name, FLOAT_BYTES) / _KILOBYTE for name, n in weights.items()}
    return {"parameters": Addends(**weights), "kilobytes": Addends(**kilobytes)}


def _counts(context: Context) -> dict[str, Table8]:
    return {name: count(base_of_shape(name)) for name in context.bases}


def _verdicts(counts: Mapping[str, Table8], *, memory: bool) -> list[Verdict]:
    """Judge the paper's claims, which are about BERT-base; the memory is that of Table 2."""
    found = []
    for name, counted in counts.items():
        if paper_base(name) == BERT:
            subject = short_name(name)
            found += (
                [T8.verdict(subject, counted), T2C.verdict(subject, megabytes(counted))]
                if memory
                else [F3.verdict(subject, counted)]
            )
    return found


def _notes(counts: Mapping[str, Table8]) -> list[str]:
    lower = {
        short_name(name): (first_lower(counted, "kilobytes"), first_lower(counted, "parameters"))
        for name, counted in counts.items()
    }
    crossings = [
        f"{name}: masking takes less memory from {memory} tasks on, fewer parameters from {parameters} on."
        for name, (memory, parameters) in lower.items()
    ]
    pools = [f"{name}: {_RANDOM_POOLER}." for name in counts if base_of_shape(name).pooler is None]
    return ["As parameters a mask bit counts one; KB are decimal, as in the paper.", *crossings, *pools]


def _addends(name: str, counted: Table8) -> Table:
    """Return a row for each task and method, with the paper's where the base is BERT."""
    own = paper_base(name) == BERT
    pretrained = FACTS.table8.pretrained if own else None
    rows = [["pretrained model", "both", *_pairs(counted.pretrained, pretrained)]]
    for task, found in counted.added.items():
        for method in METHOD_ORDER:
            paper = FACTS.table8.added[task][method] if own else None
            rows.append(
                [
                    TASKS[task].title,
                    method,
                    *_pairs(
                        {unit: _written(found[method][unit]) for unit in UNITS},
                        paper and {unit: _written(paper[unit]) for unit in UNITS},
                    ),
                ]
            )
    head = ["added", "by", "parameters", "paper: parameters", "KB", "paper: KB"]
    return Table(head, rows, f"{short_name(name)}, what each task adds: classifier, copy of the model, masks")


def _pairs(ours: Mapping[Unit, Any], paper: Mapping[Unit, Any] | None) -> list[str]:
    return [
        cell
        for unit in UNITS
        for cell in (_number(ours[unit]), _number(paper[unit]) if paper else NOT_PRINTED)
    ]


def _written(addends: Addends) -> str:
    parts = (addends.classifier, addends.copy_of_base, addends.mask, addends.classifier_mask)
    return " ".join(f"+ {_number(part)}" for part in parts if part)


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


def _totals(name: str, counted: Table8, bundles: Mapping[str, int] | None = None) -> Table:
    columns = [counted.totals(method, unit) for method in METHOD_ORDER for unit in UNITS]
    kilobytes = columns[1], columns[3]
    ratios = [f"{tuned / masked:.2f}" for tuned, masked in zip(*kilobytes, strict=True)]
    head = [
        "tasks",
        *(f"{m}: {'KB' if u == 'kilobytes' else u}" for m in METHOD_ORDER for u in UNITS),
        "ratio of KB",
    ]
    cells = [
        [f"{value:,.3f}" if u == "kilobytes" else f"{value:,.0f}" for value in column]
        for column, u in zip(columns, UNITS * 2, strict=True)
    ]
    rows = [
        [str(n), *row, ratio] for n, (*row, ratio) in enumerate(zip(*cells, ratios, strict=True), start=1)
    ]
    if bundles is not None:
        own = accumulate(bundles.values(), initial=round(_KILOBYTE * counted.pretrained["kilobytes"]))
        head.append("base and own bundles: KB")
        for row, total in zip(rows, list(own)[1:], strict=True):
            row.append(f"{total / _KILOBYTE:,.3f}")
    return Table(head, rows, f"{short_name(name)}, running totals")


def _values(counted: Table8) -> dict[str, Any]:
    return {
        "added": counted.model_dump()["added"],
        "pretrained": dict(counted.pretrained),
        "totals": [
            {f"{method}_{unit}": counted.totals(method, unit)[n] for method in METHOD_ORDER for unit in UNITS}
            for n in range(len(counted.added))
        ],
        "less_memory_from": first_lower(counted, "kilobytes"),
        "fewer_parameters_from": first_lower(counted, "parameters"),
    }


def _draw(figure: Any, counts: Mapping[str, Table8]) -> None:
    figure.set_size_inches(8, 0.8 + 2.9 * len(counts))
    rows = figure.subplots(len(counts), len(UNITS), squeeze=False)
    labels = {"parameters": "parameters, millions", "kilobytes": "memory, MB (10^6 bytes)"}
    factors = {"parameters": 1e-6, "kilobytes": 1e-3}
    for panels, (name, counted) in zip(rows, counts.items(), strict=True):
        for axes, unit, letter in zip(panels, UNITS, "ab", strict=True):
            _draw_totals(axes, counted, unit, factors[unit])
            axes.set_ylabel(labels[unit])
            axes.set_title(f"({letter}) {short_name(name)}", loc="left", fontsize=9)
    handles, names = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, names, ncols=3, frameon=False, fontsize=8, loc="outside lower center")


def _draw_totals(axes: Any, counted: Table8, unit: Unit, factor: float) -> None:
    tasks = range(1, len(counted.added) + 1)
    for method in METHOD_ORDER:
        values = [factor * total for total in counted.totals(method, unit)]
        axes.plot(tasks, values, color=METHOD_COLORS[method], marker="o", markersize=3, label=method)
    first = first_lower(counted, unit)
    if first is not None:
        axes.axvline(
            first, color="0.5", linewidth=0.8, linestyle=":", label="from here on masking takes less"
        )
    titles = [TASKS[task].title for task in counted.added]
    axes.set_xticks(tasks, [f"{n}\n{title}" for n, title in zip(tasks, titles, strict=True)], fontsize=6)
    axes.set_xlabel("tasks, the last one added below", fontsize=8)
    axes.set_ylim(bottom=0)
    clear(axes)
