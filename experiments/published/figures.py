"""Rules of the paper's figures; see `experiments.published.rules`."""

from experiments.published.facts import FACTS, Table8, Unit
from experiments.published.rules import Finding, Rule

LESS_MEMORY_FROM, FEWER_PARAMETERS_FROM = 2, 3


def first_lower(counted: Table8, unit: Unit) -> int | None:
    """Return the number of tasks from which on masking takes less than finetuning; None for never.

    Args:
        counted: Addends of tasks.
        unit: What is compared.
    """
    pairs = zip(counted.totals("masking", unit), counted.totals("finetuning", unit), strict=True)
    higher = [tasks for tasks, (masking, finetuning) in enumerate(pairs, start=1) if masking >= finetuning]
    first = max(higher, default=0) + 1
    return first if first <= len(counted.added) else None


def _crossings(counted: Table8) -> Finding:
    memory, parameters = first_lower(counted, "kilobytes"), first_lower(counted, "parameters")
    values = {"less memory from tasks": memory or 0, "fewer parameters from tasks": parameters or 0}
    return Finding(values, (memory, parameters) == (LESS_MEMORY_FROM, FEWER_PARAMETERS_FROM))


F3 = Rule[Table8](
    "F3",
    "masking takes more than finetuning for one task, less memory from two tasks on and fewer parameters "
    "from three on.",
    f"memory is lower from {LESS_MEMORY_FROM} tasks on, parameters are fewer from {FEWER_PARAMETERS_FROM}",
    _crossings,
    lambda: {base: FACTS.table8 for base in FACTS.table2.errors},
)

FIGURE_RULES = (F3,)
