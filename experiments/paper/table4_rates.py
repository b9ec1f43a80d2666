"""Table 4: the learning rate of each task, searched for both methods (paper, section 4 and appendix A.4).

A rate is searched on the paper's grid, which grows until the best one is not on its border. It belongs to
the scale's rows and settings. What the runs folder knows is not learned again.
"""

from collections.abc import Sequence
from typing import Any

from experiments.common.context import Context
from experiments.common.report import Result, Table, short_name
from experiments.common.runs import METHODS, SEARCH_SEED
from experiments.common.scores import listed
from experiments.common.tasks import TASKS
from experiments.published.beside import Beside
from experiments.published.facts import FACTS, NOT_PRINTED, Method
from experiments.published.rules import Verdict
from experiments.published.tables import T4A, T4B, Search, Searches

QUICK_TASKS = ("trec",)


def table4(context: Context) -> Result:
    """Search the rate of every task by both methods, on every base."""
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FACTS.setup.tasks)
    seed = context.choose_seeds(quick=(SEARCH_SEED,), full=(SEARCH_SEED,))
    searches = {base: _search_all(context, base, tasks, seed) for base in context.bases}
    besides = {base: Beside.of(base, full=context.scale == "full") for base in context.bases}
    return Result(
        title="Table 4: learning rates",
        tables=[_table(base, found, besides[base]) for base, found in searches.items()],
        values={short_name(base): _record(found) for base, found in searches.items()},
        settings={"Tasks": listed(tasks), "Seeds": listed(seed)},
        notes=[f"{short_name(base)}: {beside.note}" for base, beside in besides.items()],
        verdicts=[one for base, found in searches.items() for one in _verdicts(short_name(base), found)],
    )


def _search_all(context: Context, base: str, tasks: Sequence[str], seeds: Sequence[int]) -> Searches:
    return {
        method: {task: _search(context, base, task, method, seeds) for task in tasks} for method in METHODS
    }


def _search(context: Context, base: str, task: str, method: Method, seeds: Sequence[int]) -> Search:
    context.setting(task, base=base)
    found = context.search(task, method, seeds, base=base)
    return Search(found.best.lr, tuple(trial.lr for trial in found.trials))


def _verdicts(subject: str, found: Searches) -> list[Verdict]:
    rates = {method: {task: one.chosen for task, one in row.items()} for method, row in found.items()}
    return [T4A.verdict(subject, found), T4B.verdict(subject, rates)]


def _table(base: str, found: Searches, beside: Beside) -> Table:
    rows = [
        [
            TASKS[task].title,
            method,
            f"{search.chosen:g}",
            f"{search.tried[0]:g} to {search.tried[-1]:g}, {len(search.tried)} rates",
            _printed(beside.base, method, task),
        ]
        for method, row in found.items()
        for task, search in row.items()
    ]
    return Table(["task", "method", "best rate", "tried", "paper"], rows, f"{short_name(base)}, Adam's rate")


def _printed(base: str, method: Method, task: str) -> str:
    rate = FACTS.table4.rates[base][method].get(task)
    return NOT_PRINTED if rate is None else f"{rate:g}"


def _record(found: Searches) -> dict[str, Any]:
    return {
        method: {task: {"chosen": one.chosen, "tried": list(one.tried)} for task, one in row.items()}
        for method, row in found.items()
    }
