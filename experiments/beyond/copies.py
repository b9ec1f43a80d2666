"""Finetuned copies as tasks of one bit a weight: what each loses, takes and costs to make.

No result of the paper; it measures `maskserve import`. Each task is finetuned and written as a folder of
transformers, which is imported three ways: signs with one factor, signs with scales fitted on some inputs,
and a mask learned from the copy's answers to the training inputs. All are measured on dev, and then answer
together in one mixed batch, beside models into whose weights the bits are folded.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from experiments.common.context import Context
from experiments.common.once import once
from experiments.common.report import Result, Table
from experiments.common.runs import SEARCH_SEED, Run
from experiments.common.scores import listed
from experiments.common.tasks import TASKS, sample_file
from mask_store import MaskBundle, MaskStore, human_bytes
from masking import (
    Base,
    FinetunedModel,
    MaskedEncoder,
    TaskBatch,
    TaskCodec,
    TaskSpec,
    load_task,
    task_codec,
)
from masking.checkpoints import export_tensors, folded_tensors
from training.cli.progress import ProgressBar
from training.copies.copied_text import Agreement, encode, read_copied_text
from training.copies.importing import ImportOptions, import_copy
from training.loop.evaluation import batch_logits
from training.options import LoopOptions
from training.runs.results import short_hash

logger = logging.getLogger(__name__)

COPIED = ("trec", "mrpc", "sst2", "ner", "pos", "codah")
FITTED_ON = 500
"""Training rows that scales are fitted on."""
_MIXED = 8  # inputs of each task in the mixed batch

Form = Literal["sign", "fitted", "mask"]
_MIXED_FORMS: tuple[Form, ...] = ("fitted", "mask")
FORMS: Mapping[Form, str] = {"sign": "signs", "fitted": "signs, fitted", "mask": "mask"}


@dataclass(frozen=True)
class Imported:
    """A copy as a task.

    Attributes:
        copied: The copy's dev metric, 0 to 1.
        value: The task's.
        equal: Share of labels that are the copy's.
        nbytes: Bytes of the bundle.
        seconds: Time that the import took, learning or fitting with it.
    """

    copied: float
    value: float
    equal: float
    nbytes: int
    seconds: float

    @property
    def points(self) -> float:
        """What the task gains on the copy, in points; below 0 what it loses."""
        return 100 * (self.value - self.copied)


@dataclass(frozen=True)
class Mixed:
    """Tasks in one batch, beside folded models.

    Attributes:
        tasks: Tasks in the batch.
        answers: Answers compared.
        equal: Of them, those with the same label.
        largest: Largest difference of a probability.
    """

    tasks: int
    answers: int
    equal: int
    largest: float


def copies(context: Context) -> Result:
    """Finetune a copy on each task and import it every way.

    Raises:
        TrainingError, MaskingError, MaskStoreError: A copy can't be learned, imported or published.
    """
    tasks = context.choose_tasks(quick=COPIED[:1], full=COPIED)
    seed = context.choose_seeds(quick=(SEARCH_SEED,), full=(SEARCH_SEED,))[0]
    runs = {task: context.run(task, "finetuning", seed=seed) for task in tasks}
    folder = context.runs_dir / next(iter(runs.values())).setting.base.info.name / "copies"
    store = MaskStore.open(str(folder / "store"), create=True)
    found: dict[str, dict[Form, Imported]] = {task: {} for task in tasks}
    for form in FORMS:  # what takes longest comes last
        for task, run in runs.items():
            found[task][form] = _imported(context, run, form, store, folder)
    mixed = _mix(context, runs, store)
    return Result(
        title="Finetuned copies as tasks of one bit a weight",
        tables=[_table(found), _costs(found), _mixed_table(mixed)],
        values={
            "tasks": {
                task: {form: {**asdict(one), "points": one.points} for form, one in forms.items()}
                for task, forms in found.items()
            },
            "mixed": asdict(mixed),
        },
        settings={
            "Tasks": listed(tasks),
            "Seed": str(seed),
            "Scales fitted on": f"{FITTED_ON} training rows",
        },
        notes=[
            "Difference: the dev metric of the task less that of the copy it was made of, in points.",
            "The factor of signs is chosen by the copy's answers to 256 dev inputs, without their labels; "
            f"scales are fitted to its answers to at most {FITTED_ON} training inputs.",
            "A mask is learned on the training inputs without their labels; the best epoch is the one that "
            "answers the dev inputs most like the copy.",
        ],
    )


def _named(run: Run) -> str:
    """Return a name for a copy that no other copy has."""
    return f"{run.task}-{short_hash(run.identity)}"


def _task_name(context: Context, run: Run, form: Form) -> str:
    """Return a name for a task made of a copy that no task made otherwise has."""
    settings = {"sign": {}, "fitted": {"fitted_on": FITTED_ON}, "mask": _loop(context, run).model_dump()}
    return f"{_named(run)}-{form}-{short_hash(settings[form])}"


def _imported(context: Context, run: Run, form: Form, store: MaskStore, folder: Path) -> Imported:
    """Import a copy, unless it was imported already."""
    name = _task_name(context, run, form)
    return Imported(**once(folder / f"{name}.json", lambda: _import(context, run, form, name, store, folder)))


def _import(
    context: Context, run: Run, form: Form, name: str, store: MaskStore, folder: Path
) -> dict[str, Any]:
    """Import a copy as a task of a name."""
    files, spec, base = context.files(run.task), run.setting.spec, run.setting.base
    fit = {
        "sign": (),
        "fitted": (str(sample_file(TASKS[run.task], Path(files.train), FITTED_ON, folder)),),
        "mask": (files.train,),
    }[form]
    options = ImportOptions(
        form="mask" if form == "mask" else "sign",
        max_length=spec.max_length,
        word_piece=spec.word_piece,
        text=(files.dev,),
        fit=fit,
        loop=_loop(context, run),
        run_dir=str(folder / f"{name}-run"),
    )
    logger.info(f"{run.task}: import as {FORMS[form]}")
    copied = _copy_folder(run, folder / _named(run))
    report = import_copy(str(copied), base, name, store, options, callbacks=[ProgressBar()])
    compared = report.compared
    assert compared is not None
    assert compared.agreement.equal is not None
    found = Imported(
        copied=compared.copy_metrics[run.metric],
        value=compared.task_metrics[run.metric],
        equal=compared.agreement.equal / compared.agreement.answers,
        nbytes=report.bundle_bytes,
        seconds=report.seconds,
    )
    return asdict(found)


def _loop(context: Context, run: Run) -> LoopOptions:
    """Return how a mask is learned from a copy: as from labels."""
    own = run.setting.options.model_dump(include=set(LoopOptions.model_fields))
    return LoopOptions.model_validate({**own, "lr": context.rate(run.task, "masking"), "seed": run.seed})


def _copy_folder(run: Run, folder: Path) -> Path:
    """Write a copy as transformers would, unless it is there."""
    if not folder.is_dir():
        model = run.model()
        assert isinstance(model, FinetunedModel)
        spec = run.setting.spec
        export_tensors(run.task, spec, model.activation, model.tensors, run.setting.base, folder)
    return folder


def _mix(context: Context, runs: Mapping[str, Run], store: MaskStore) -> Mixed:
    """Let all tasks answer in one batch, half of them signs, half of them masks, beside folded models."""
    parts: list[tuple[TaskBatch, FinetunedModel, TaskCodec]] = []
    for task, run in runs.items():
        base = run.setting.base
        for form in _MIXED_FORMS:
            bundle = store.load(_task_name(context, run, form))
            spec = TaskSpec.of(bundle.manifest)
            codec = task_codec(spec, base.tokenizer)
            text = read_copied_text([context.files(task).dev], spec.kind)
            batch = TaskBatch(load_task(bundle, base), encode(text, codec)[:_MIXED])
            parts.append((batch, _folded(bundle, base, spec), codec))
    base = next(iter(runs.values())).setting.base
    served = MaskedEncoder(base).logits([batch for batch, *_ in parts])
    compared = [
        Agreement.of(
            codec.spec.kind,
            batch_logits(model, codec, batch.features, tokenizer=base.tokenizer, device=base.device),
            logits,
        )
        for (batch, model, codec), logits in zip(parts, served, strict=True)
    ]
    return Mixed(
        tasks=len(parts),
        answers=sum(one.answers for one in compared),
        equal=sum(one.equal or 0 for one in compared),
        largest=max(one.largest for one in compared),
    )


def _folded(bundle: MaskBundle, base: Base, spec: TaskSpec) -> FinetunedModel:
    """Return a plain model into whose weights a task's bits are folded."""
    model = FinetunedModel.create(base, spec, seed=0)
    model.load_tensors(folded_tensors(bundle.members[0], base))
    return model.eval()


def _table(found: Mapping[str, Mapping[Form, Imported]]) -> Table:
    rows = []
    for task, forms in found.items():
        cells = [cell for one in forms.values() for cell in (f"{100 * one.value:.2f}", f"{one.points:+.2f}")]
        rows.append([TASKS[task].title, TASKS[task].metric, f"{100 * forms['sign'].copied:.2f}", *cells])
    means = [f"{fmean(forms[form].points for forms in found.values()):+.2f}" for form in FORMS]
    rows.append(["mean", "", "", *(cell for mean in means for cell in ("", mean))])
    head = [cell for text in FORMS.values() for cell in (text, "difference")]
    return Table(["task", "metric", "copy, %", *head], rows, "Dev metric of copies and of tasks made of them")


def _costs(found: Mapping[str, Mapping[Form, Imported]]) -> Table:
    rows = [
        [
            TASKS[task].title,
            FORMS[form],
            f"{one.equal:.2%}",
            human_bytes(one.nbytes),
            f"{one.seconds:.1f}",
        ]
        for task, forms in found.items()
        for form, one in forms.items()
    ]
    head = ["task", "made", "labels equal to the copy's", "bundle", "seconds"]
    return Table(head, rows, "Agreement, size and time of each import, measuring on dev with it")


def _mixed_table(mixed: Mixed) -> Table:
    head = ["tasks in the batch", "equal labels", "largest difference of probability"]
    row = [str(mixed.tasks), f"{mixed.equal} of {mixed.answers}", f"{mixed.largest:.1e}"]
    return Table(head, [row], "Signs and masks in one mixed batch, beside models with folded weights")
