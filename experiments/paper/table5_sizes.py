"""Table 5: sizes of dev and test (paper, appendix A.5). Exact.

Counts what is measured: usable rows, and of POS and NER words, without those whose last wordpiece lies beyond
the first 126. The wordpieces are those of the base, whichever the scale. Sets that the data lack are left
out, unless they were asked for.
"""

from dataclasses import replace

from experiments.common.context import Context
from experiments.common.report import Result, Table, short_name
from experiments.common.scales import whole
from experiments.common.sizes import counted
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentError
from experiments.published.facts import FACTS, NOT_PRINTED
from experiments.published.tables import L1, T5, TODAYS_COUNTS
from training.errors import DataError

_SPECIAL_TOKENS = 2
_SPLITS = ("dev", "test")


def table5(context: Context) -> Result:
    """Count the sets at hand.

    Raises:
        ExperimentError: There are none.
        DataError: One that was asked for is not there.
    """
    sets = replace(context, quick=False, changes=whole(context.changes))
    tasks = context.tasks or FACTS.setup.tasks
    counts = {task: found for task in tasks if (found := _count(sets, task))}
    if not counts:
        raise ExperimentError("none of the tasks' sets is there: give --data FOLDER")
    subject = short_name(context.base)
    return Result(
        title="Table 5: sizes of dev and test",
        tables=[_table(counts)],
        values={"counts": counts},
        settings={"Wordpieces": f"the first {_wordpieces(sets)} of a sentence, by the base's tokenizer"},
        notes=["Examples; for POS and NER words. The paper's POS is the Wall Street Journal's."],
        verdicts=[rule.verdict(subject, counts) for rule in (T5, L1)],
        exact=True,
    )


def _wordpieces(context: Context) -> int:
    return int(context.scale_of(None).options["max_length"]) - _SPECIAL_TOKENS


def _count(context: Context, task: str) -> dict[str, int]:
    """Count a task's dev and test set; empty where its files are not there."""
    try:
        context.files(task)
    except DataError:
        if context.tasks:
            raise
        return {}
    setting = context.setting(task)
    test = context.test(task)
    dev = {"dev": counted(setting.encoded.dev)}
    return dev if test is None else {**dev, "test": counted(test.examples)}


def _table(counts: dict[str, dict[str, int]]) -> Table:
    rows = []
    for task, found in counts.items():
        for split in _SPLITS:
            printed = FACTS.table5.counts.get(task, {}).get(split)
            today = TODAYS_COUNTS.get((task, split))
            ours = found.get(split)
            if ours is not None or printed is not None:
                cells = [NOT_PRINTED if size is None else f"{size:,}" for size in (ours, printed, today)]
                same = "" if ours is None or printed is None else "yes" if ours in (printed, today) else "no"
                rows.append([TASKS[task].title, split, *cells, same])
    return Table(["task", "split", "counted", "paper", "distributed today", "equal"], rows)
