"""Tables 2 and 6: test error of one model and of four together (paper, section 5.3 and appendix C).

Table 2 is BERT, with memory; Table 6 is the same for RoBERTa and DistilBERT. The models of all seeds vote by
label, or their logits or probabilities are averaged; the way that is best on dev is the one whose test error
counts, and of equals the first of `RULES`. Where the data have no ``test`` file and nothing is held out of
train (``--hold-out``), errors are on dev, which has also chosen epochs and way: those of both methods are too
low, and no claim is judged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.common.context import Context
from experiments.common.report import Result, Table, short_name
from experiments.common.runs import METHODS, Run
from experiments.common.scores import Scores, errors_of, listed
from experiments.common.tasks import TASKS
from experiments.errors import ExperimentOptionsError
from experiments.paper.table8_figure3_memory import count, megabytes
from experiments.published.beside import Beside
from experiments.published.facts import BERT, FACTS, NOT_PRINTED, Errors, Method, Size, paper_base
from experiments.published.rules import Verdict
from experiments.published.tables import T2A, T2B, T2C, Megabytes
from lab.paper_bases import base_of_shape
from mask_store import CombineRule
from training.data.features import EncodedExample
from training.loop.evaluation import measure, predict_logits
from training.runs.combining import RULES, choose_rule, measure_together
from training.runs.preparation import Preparation

QUICK_TASKS = ("trec", "sst2")
FULL_TASKS = ("sem", "trec", "agnews", "pos", "ner")
_PRINTED: Mapping[str, Errors] = {**FACTS.table2.errors, **FACTS.table6.errors}
_SIZES: tuple[Size, ...] = ("single", "ensemble")
_DEV_NOTE = (
    "There is no test file (and no --hold-out), so errors are on dev, which has also chosen epochs and way: "
    "those of both methods are too low, alike, and T2a and T2b are not judged."
)


@dataclass(frozen=True)
class Group:
    """The models of one method on one task, alone and together.

    Attributes:
        task: Name of the task.
        method: How the models were learned.
        split: ``test`` or ``dev``, where errors were measured.
        single: Error of each model.
        rules: Error of the ensemble by way of combining, 0 to 1.
        chosen: The way that is best on dev.
    """

    task: str
    method: Method
    split: str
    single: Scores
    rules: dict[CombineRule, float]
    chosen: CombineRule

    @property
    def errors(self) -> dict[Size, float]:
        """Error of one model, in the mean, and of all together, in percent."""
        return {"single": self.single.mean, "ensemble": 100 * self.rules[self.chosen]}


def table2(context: Context) -> Result:
    """Compare one model with the ensemble, in test error and in memory."""
    groups = {context.base: _groups(context, context.base)}
    held = megabytes(count(base_of_shape(context.base)))
    verdicts = [T2C.verdict(short_name(context.base), held)] if paper_base(context.base) == BERT else []
    return _result(
        context,
        "Table 2: test error and memory of one model and of an ensemble",
        groups,
        [_memory(context, held)],
        verdicts,
        [f"Systems that the paper refers to, error in percent: {_references()}."],
        {"megabytes": held},
    )


def table6(context: Context) -> Result:
    """Compare one model with the ensemble on every base, in test error."""
    groups = {base: _groups(context, base) for base in context.bases}
    return _result(context, "Table 6: test error of one model and of an ensemble", groups)


def _groups(context: Context, base: str) -> list[Group]:
    tasks = context.choose_tasks(quick=QUICK_TASKS, full=FULL_TASKS)
    seeds = _seeds(context)
    if len(seeds) < 2:  # noqa: PLR2004
        raise ExperimentOptionsError("an ensemble has at least two members: give --seeds two numbers or more")
    groups = []
    for task in tasks:
        test = context.test(task, base=base)
        for method in METHODS:
            members = [context.run(task, method, seed=seed, base=base) for seed in seeds]
            groups.append(_group(task, method, members, test.examples if test else None))
    return groups


def _seeds(context: Context) -> tuple[int, ...]:
    return context.choose_seeds(quick=FACTS.setup.seeds, full=FACTS.setup.seeds)


def _group(task: str, method: Method, members: Sequence[Run], test: Sequence[EncodedExample] | None) -> Group:
    setting = members[0].setting
    dev = _Measured(setting, members, setting.encoded.dev)
    seen = dev if test is None else _Measured(setting, members, test)
    return Group(
        task,
        method,
        "dev" if test is None else "test",
        errors_of(seen.single),
        {rule: 1 - metrics[setting.metric] for rule, metrics in seen.rules.items()},
        choose_rule(dev.rules, setting.metric),
    )


class _Measured:
    """The metric of models alone and together on some examples."""

    def __init__(
        self, setting: Preparation, members: Sequence[Run], examples: Sequence[EncodedExample]
    ) -> None:
        codec, size = setting.codec, setting.options.batch_size
        logits = [predict_logits(run.model(), codec, examples, max_rows=size) for run in members]
        alone = [measure(codec, examples, [codec.decode(one) for one in own]) for own in logits]
        self.single = [metrics[setting.metric] for metrics in alone]
        self.rules = measure_together(codec, examples, logits)


def errors_by_task(groups: Iterable[Group]) -> dict[Method, dict[Size, dict[str, float]]]:
    """Return errors in percent by method, size and task, as rules take them; those on test alone."""
    errors: dict[Method, dict[Size, dict[str, float]]] = {}
    for group in groups:
        if group.split == "test":
            for size, error in group.errors.items():
                errors.setdefault(group.method, {}).setdefault(size, {})[group.task] = error
    return errors


def _result(
    context: Context,
    title: str,
    groups: Mapping[str, Sequence[Group]],
    more: Sequence[Table] = (),
    verdicts: Sequence[Verdict] = (),
    notes: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> Result:
    besides = {base: Beside.of(base, full=context.scale == "full") for base in groups}
    tables = [_table(base, found, besides[base]) for base, found in groups.items()]
    judged = {base: errors_by_task(found) for base, found in groups.items()}
    own = [
        rule.verdict(short_name(base), errors)
        for base, errors in judged.items()
        if errors
        for rule in (T2A, T2B)
    ]
    said = ["Error is 1 less the task's metric; of one model: mean ± standard deviation (n - 1) over seeds."]
    if any(group.split == "dev" for found in groups.values() for group in found):
        said.append(_DEV_NOTE)
    tasks = dict.fromkeys(group.task for found in groups.values() for group in found)
    return Result(
        title=title,
        tables=[*tables, *more],
        values={
            "groups": {
                short_name(base): [_record(group) for group in found] for base, found in groups.items()
            },
            **(values or {}),
        },
        settings={"Tasks": listed(tasks), "Seeds": listed(_seeds(context))},
        notes=[*said, *notes, *(f"{short_name(base)}: {beside.note}" for base, beside in besides.items())],
        verdicts=[*own, *verdicts],
    )


def _table(base: str, groups: Sequence[Group], beside: Beside) -> Table:
    rows = [
        [
            TASKS[group.task].title,
            group.method,
            str(group.single),
            _percent(group.rules[group.chosen]),
            group.chosen,
            *(_percent(group.rules[rule]) for rule in RULES),
            *_beside(group, beside),
        ]
        for group in groups
    ]
    head = ["task", "method", "single", "ensemble", "way chosen on dev", *RULES]
    splits = listed(sorted({group.split for group in groups}))
    paper = ["paper: single", "paper: ensemble", "ours - paper: single", "ours - paper: ensemble"]
    return Table([*head, *paper], rows, f"{short_name(base)}, error in percent on {splits}")


def _beside(group: Group, beside: Beside) -> list[str]:
    """Return the paper's errors, and how far ours are from them; it prints no spread here."""
    found = [_PRINTED[beside.base][group.method][size].get(group.task) for size in _SIZES]
    cells = [NOT_PRINTED if error is None else f"{error:.2f}" for error in found]
    ours = group.errors.values()
    compare = beside.compared and group.split == "test"
    gaps = [
        NOT_PRINTED if error is None or not compare else f"{own - error:+.2f}"
        for own, error in zip(ours, found, strict=True)
    ]
    return [*cells, *gaps]


def _memory(context: Context, held: Megabytes) -> Table:
    own = paper_base(context.base) == BERT
    rows = [
        [
            method,
            *(f"{held[method][size]:.1f}" for size in _SIZES),
            *(str(FACTS.table2.megabytes[method][size]) for size in _SIZES),
        ]
        for method in METHODS
    ]
    of_paper = "paper" if own else f"paper ({BERT})"
    head = ["method", "single", "ensemble of four", f"{of_paper}: single", f"{of_paper}: ensemble"]
    counted = "the encoder once, masks or copies, no classifiers"
    return Table(head, rows, f"{short_name(context.base)}, memory in MB (10^6 bytes): {counted}")


def _references() -> str:
    return "; ".join(
        f"{system}: {listed(f'{TASKS[task].title} {error:.2f}' for task, error in errors.items())}"
        for system, errors in FACTS.table2.references.items()
    )


def _percent(error: float) -> str:
    return f"{100 * error:.2f}"


def _record(group: Group) -> dict[str, Any]:
    return {
        "task": group.task,
        "method": group.method,
        "metric": TASKS[group.task].metric,
        "split": group.split,
        "single": group.single.record(),
        "ensemble": {rule: 100 * error for rule, error in group.rules.items()},
        "chosen_on_dev": group.chosen,
    }
