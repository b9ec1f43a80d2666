"""Trained runs of the experiments, so that every table and figure learns only what no other has learned yet.

A run is one task learned by one method with one seed and one set of settings. Runs of a base and a task are
kept in one folder with their weights (scores of a mask, or finetuned weights), see `training.runs.results`. A
command that is killed resumes with what is there.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from torch.nn.utils import parametrize

from experiments.common.held_out import encode_held_out
from experiments.common.tasks import TASKS, TaskFiles, task_files
from experiments.published.facts import Method
from masking import FinetunedModel, MaskedModel, MaskScores, MaskSettings, TaskModel
from masking.tasks import MODEL_KINDS
from training.data.rows import RowSet, data_digest
from training.data.sources import read_file
from training.errors import DivergedError
from training.loop.callbacks import Callback
from training.loop.history import EpochRecord
from training.options import EXTRA_SETTINGS, PRESETS, LearnOptions
from training.options import Method as LearningMethod
from training.paper import task_rate
from training.runs.preparation import Preparation, prepare
from training.runs.rate_search import Found, Grid, search
from training.runs.results import Result, Results, short_hash
from training.runs.runner import HeldOutRows, Runner

logger = logging.getLogger(__name__)

RESULTS = "results.jsonl"
METHODS: dict[Method, LearningMethod] = {"masking": "mask", "finetuning": "finetune"}
FLOAT_BYTES = 4
SEARCH_SEED = 1
SET = "set"
# Settings of masks, which finetuning has at fixed values, so that they are not part of its identity.
_MASK_ONLY = {
    name: PRESETS["paper"][name]
    for name in (*MaskSettings.model_fields, *EXTRA_SETTINGS)
    if name not in ("keep_epoch", "class_weights")  # which finetuning has too
}

Rate = float | Literal["paper", "search"]
"""A learning rate, the paper's (Table 4; searched where it has none), or one that is searched."""


@dataclass(frozen=True)
class Scale:
    """How much is learned from, and how.

    Attributes:
        name: ``quick`` or ``full``, to say in every result.
        train_rows: Most training rows of a task; None for all.
        dev_rows: Most dev rows of a task; None for all.
        options: Fields of `LearnOptions` for both methods.
        rates: Learning rate of each method, or where it comes from.
        hold_out: Share of train that takes the place of dev, whose rows are the test then; None for none.
    """

    name: str
    train_rows: int | None
    dev_rows: int | None
    options: Mapping[str, Any]
    rates: Mapping[Method, Rate]
    hold_out: float | None = None


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        task: Name of the task.
        method: How it was learned.
        result: Its result.
        identity: Every setting and digest that decided what was learned.
        setting: What it was learned from.
        results: Where it is kept.
    """

    task: str
    method: Method
    result: Result
    identity: dict[str, Any]
    setting: Preparation = dataclasses.field(repr=False)
    results: Results = dataclasses.field(repr=False)

    @property
    def seed(self) -> int:
        """Seed of head, scores, order and dropout."""
        return self.result.seed

    @property
    def metric(self) -> str:
        """Name of the dev metric."""
        return self.result.metric

    @property
    def value(self) -> float:
        """Value of the dev metric at the best epoch, 0 to 1 (a Matthews correlation may be below 0)."""
        return self.result.value

    @property
    def metrics(self) -> dict[str, float]:
        """Every dev metric at the best epoch."""
        return self.epochs[self.result.best_epoch - 1].metrics

    @property
    def epochs(self) -> tuple[EpochRecord, ...]:
        """Record of each epoch."""
        return self.result.epochs

    @property
    def seconds(self) -> float:
        """Time that learning took."""
        return self.result.seconds

    @property
    def rows(self) -> tuple[int, int]:
        """Numbers of train and dev rows."""
        return len(self.setting.encoded.train), len(self.setting.encoded.dev)

    @property
    def task_bytes(self) -> int:
        """Bytes that the task takes in addition to the base: masks and head, or the finetuned copy."""
        return self.result.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of the packed masks, or of the finetuned copy."""
        return self.task_bytes - (head_bytes(self.setting) if self.method == "masking" else 0)

    def model(self) -> TaskModel:
        """Return the model as it was at the best epoch: a `MaskedModel` or a `FinetunedModel`."""
        seed, base, spec = self.setting.options.seed, self.setting.base, self.setting.spec
        model: TaskModel = (
            MaskedModel.create(base, spec, self.setting.options, seed=seed)
            if self.method == "masking"
            else FinetunedModel.create(base, spec, seed=seed)
        )
        model.load_learned_state(self.results.weights(self.identity))
        return model.eval()

    def weights(self) -> dict[str, Tensor]:
        """Dense float32 weights by name, W * M where there is a mask; the same names for both methods."""
        return dense_weights(self.model())

    def masks(self) -> dict[str, Tensor]:
        """Boolean masks by layer name; none for a finetuned run."""
        return _masks(self.model(), lambda mask: mask.mask())

    def initial_masks(self) -> dict[str, Tensor]:
        """Boolean masks before learning by layer name."""
        return _masks(self.model(), lambda mask: mask.initial)


@dataclass(frozen=True)
class Measured:
    """A finished run and what it was measured to be.

    Attributes:
        run: The run.
        metrics: Every metric at the best epoch, on the rows that it was measured on.
    """

    run: Run
    metrics: Mapping[str, float]

    @property
    def value(self) -> float:
        """Value of the task's metric."""
        return self.metrics[self.run.metric]


class Runs:
    """The runs of one base at one scale."""

    def __init__(
        self,
        folder: Path,
        base: str,
        scale: Scale,
        *,
        data: Path | None = None,
        callbacks: Callable[[], Iterable[Callback]] = tuple,
    ) -> None:
        """Use runs in a folder.

        Args:
            folder: Where runs are kept; made if absent.
            base: Hub id or folder of the pretrained encoder.
            scale: How much to learn from.
            data: Folder of the tasks' files; None for the hub.
            callbacks: Makes callbacks for each run's loop, such as a progress bar.
        """
        self.folder = folder
        self.base = base
        self.scale = scale
        self._data = data
        self._callbacks = callbacks
        self._settings: dict[str, Preparation] = {}
        self._tests: dict[str, HeldOutRows | None] = {}
        self._rates: dict[tuple[str, Method], tuple[float, str]] = {}

    def setting(self, task: str) -> Preparation:
        """Return a task's data, encoded, with the base; read once.

        Raises:
            TrainingError, MaskingError: Data or base can't be used.
        """
        if task not in self._settings:
            self._settings[task] = prepare(self._options(task))
        return self._settings[task]

    def rate(self, task: str, method: Method) -> tuple[float, str]:
        """Return the learning rate at which a task is learned where no other is asked for, and its origin.

        A search has the scale's settings and the seed `SEARCH_SEED`, see `search`.

        Returns:
            The rate, and ``set``, ``Table 4`` or ``searched``.

        Raises:
            TrainingError, MaskingError: See `training.runs.learn.learn`.
        """
        if (task, method) not in self._rates:
            self._rates[task, method] = self._find_rate(task, method)
        return self._rates[task, method]

    def search(self, task: str, method: Method, seeds: Sequence[int], **changes: Any) -> Found:
        """Search the learning rate of a task on the paper's grid; a rate that was tried is not tried again.

        Where rows are held out of train, every run is measured on the test as well, which decides nothing:
        the run of the best rate need not be made once more for `measure`.

        Args:
            task: One of `TASKS`.
            method: How to learn it.
            seeds: Seeds whose mean dev metric decides.
            changes: Options of learning that differ from the scale's.

        Raises:
            SearchError: Every rate diverged.
            TrainingError, MaskingError: See `training.runs.learn.learn`.
        """
        fixed = _MASK_ONLY if method == "finetuning" else {}
        setting = self.setting(task).varied(**{**changes, **fixed})
        logger.info(f"{task}: {method}, search of the rate{_listed(changes)}")
        ready = setting.varied(seed=seeds[0])
        folder = self._folder(setting)
        digest = short_hash({**ready.identity_for(METHODS[method]), "lr": None, "seed": list(seeds)})
        runner = Runner(
            Results(folder / RESULTS),
            folder / f"unfinished-search-{digest}",
            list(self._callbacks()),
            held_out=None if self.scale.hold_out is None else self.test(task),
        )
        return search(ready, METHODS[method], Grid.paper(), runner, seeds)

    def get(self, task: str, method: Method, *, seed: int = 0, weights: bool = True, **changes: Any) -> Run:
        """Return a run, learned now if it isn't there yet.

        Args:
            task: One of `TASKS`.
            method: How to learn it.
            seed: Seed of the run.
            weights: Whether what was learned is wanted too; a run whose weights weren't kept is made again.
            changes: Options of learning that differ from the scale's.

        Raises:
            DivergedError: The loss became infinite or not a number.
            TrainingError, MaskingError: See `training.runs.learn.learn`.
        """
        return self._run(task, method, seed, changes, weights=weights)

    def measure(self, task: str, method: Method, *, seed: int = 0, **changes: Any) -> Measured:
        """Return a run with its metrics on the task's test, learned and measured now if it isn't there yet.

        What was measured is kept with the result: a machine that has the results goes on with them.

        Args:
            task: One of `TASKS`, which has test rows.
            method: How to learn it.
            seed: Seed of the run.
            changes: Options of learning that differ from the scale's.

        Raises:
            DataError: The test can't be used.
            DivergedError, TrainingError, MaskingError: See `get`.
        """
        test = self.test(task)
        assert test is not None, f"{task} has no test rows"
        run = self._run(task, method, seed, changes, held_out=test)
        return Measured(run, run.result.held_out[test.digest])

    def _run(
        self,
        task: str,
        method: Method,
        seed: int,
        changes: Mapping[str, Any],
        *,
        weights: bool = False,
        held_out: HeldOutRows | None = None,
    ) -> Run:
        """Return a run with its weights or measured on held-out rows, as asked."""
        setting = self._setting_of(task, method, seed, changes)
        identity = setting.identity_for(METHODS[method])
        folder = self._folder(setting)
        digest = held_out.digest if held_out else None
        results = Results(folder / RESULTS, weights=folder if weights else None, held_out=digest)
        if results.get(identity) is None:
            logger.info(f"{task}: {method}, seed {seed}{_listed(changes)}")
        unfinished = folder / f"unfinished-{short_hash(identity)}"
        runner = Runner(results, unfinished, list(self._callbacks()), held_out=held_out)
        result = runner.run(setting, METHODS[method])
        if result.end == "diverged":
            raise DivergedError(f"{task}: {method}, seed {seed}: {result}")
        return Run(task, method, result, identity, setting, results)

    def test(self, task: str) -> HeldOutRows | None:
        """Return a task's test rows, read once; None where it has none.

        Raises:
            DataError: They can't be used.
        """
        if task not in self._tests:
            path = self.files(task).test
            self._tests[task] = None if path is None else self._read_test(task, read_file(path))
        return self._tests[task]

    def _read_test(self, task: str, rows: RowSet) -> HeldOutRows:
        return HeldOutRows(encode_held_out(rows, self.setting(task)), data_digest(rows))

    def files(self, task: str) -> TaskFiles:
        """Return the files of a task's rows; see `task_files`."""
        scale = self.scale
        rows = scale.train_rows, scale.dev_rows
        return task_files(TASKS[task], self._data, rows, self.folder / "samples", scale.hold_out)

    def _setting_of(self, task: str, method: Method, seed: int, changes: Mapping[str, Any]) -> Preparation:
        fixed = _MASK_ONLY if method == "finetuning" else {}
        rate = {} if "lr" in changes else {"lr": self.rate(task, method)[0]}
        return self.setting(task).varied(**{**rate, "seed": seed, **changes, **fixed})

    def _find_rate(self, task: str, method: Method) -> tuple[float, str]:
        rate = self.scale.rates[method]
        if not isinstance(rate, str):
            return rate, SET
        known = task_rate(self.base, METHODS[method], task) if rate == "paper" else None
        if known is not None:
            return known, "Table 4"
        return self.search(task, method, (SEARCH_SEED,)).best.lr, "searched"

    def _folder(self, setting: Preparation) -> Path:
        return self.folder / setting.base.info.name / setting.options.task

    def _options(self, task: str) -> LearnOptions:
        paper, scale = TASKS[task], self.scale
        files = self.files(task)
        return LearnOptions(
            task=task,
            kind=paper.kind,
            base=self.base,
            train=(files.train,),
            dev=(files.dev,),
            metric=paper.metric,
            **files.columns,
            **scale.options,
        )


def dense_weights(model: TaskModel) -> dict[str, Tensor]:
    """Float32 copies of all weights on the CPU, masks applied, by the names of a `FinetunedModel`."""
    weights: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if "parametrizations" in name.split("."):
            continue
        own = [key for key, value in module.named_parameters(recurse=False) if value is not None]
        own += list(module.parametrizations) if parametrize.is_parametrized(module) else []
        for key in own:
            value: Tensor = getattr(module, key)
            weights[f"{name}.{key}"] = value.detach().float().cpu().clone()
    return weights


def dense_model(setting: Preparation, weights: Mapping[str, Tensor] | None = None) -> FinetunedModel:
    """Make an unmasked model of a task in evaluation mode.

    Args:
        setting: The task and its base.
        weights: As `dense_weights` gives them; None for the pretrained ones with a random head.
    """
    model = FinetunedModel.create(setting.base, setting.spec, seed=setting.options.seed)
    if weights is not None:
        model.load_learned_state(weights)
    return model.eval()


def _listed(changes: Mapping[str, Any]) -> str:
    return "".join(f", {name} {value}" for name, value in changes.items())


def head_bytes(setting: Preparation) -> int:
    """Bytes of the head that travels with masks: the classifier, and the pooler where it is random."""
    width = setting.base.hidden_size
    kind = MODEL_KINDS[setting.spec.kind]
    rows = kind.outputs(setting.spec.labels)
    if kind.pooled and setting.base.pooler is None:
        rows += width
    return FLOAT_BYTES * rows * (width + 1)


def _masks(model: TaskModel, read: Callable[[MaskScores], Tensor]) -> dict[str, Tensor]:
    masks = model.masks if isinstance(model, MaskedModel) else {}
    return {name: read(mask).cpu() for name, mask in masks.items()}
