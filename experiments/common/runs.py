"""Trained runs of the experiments, so that every table and figure learns only what no other has learned yet.

A run is one task learned by one method with one seed and one set of settings. Runs of a base and a task are
kept in one folder with their weights (scores of a mask, or finetuned weights), see `training.runs.results`. A
command that is killed resumes with what is there.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.utils import parametrize

from experiments.common.tasks import TASKS, task_files
from experiments.published.facts import Method
from masking import FinetunedModel, MaskedModel, MaskScores, MaskSettings, TaskModel
from masking.tasks import MODEL_KINDS
from training.errors import DivergedError
from training.loop.callbacks import Callback
from training.loop.history import EpochRecord
from training.options import EXTRA_SETTINGS, PRESETS, LearnOptions
from training.options import Method as LearningMethod
from training.runs.preparation import Preparation, prepare
from training.runs.results import Result, Results, short_hash
from training.runs.runner import Runner

logger = logging.getLogger(__name__)

METHODS: dict[Method, LearningMethod] = {"masking": "mask", "finetuning": "finetune"}
FLOAT_BYTES = 4
# Settings of masks, which finetuning has at fixed values, so that they are not part of its identity.
_MASK_ONLY = {name: PRESETS["paper"][name] for name in (*MaskSettings.model_fields, *EXTRA_SETTINGS)}


@dataclass(frozen=True)
class Scale:
    """How much is learned from, and how.

    Attributes:
        name: ``quick`` or ``full``, to say in every result.
        train_rows: Most training rows of a task; None for all.
        dev_rows: Most dev rows of a task; None for all.
        options: Fields of `LearnOptions` for both methods.
        rates: Learning rate of each method.
    """

    name: str
    train_rows: int | None
    dev_rows: int | None
    options: Mapping[str, Any]
    rates: Mapping[Method, float]


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

    def setting(self, task: str) -> Preparation:
        """Return a task's data, encoded, with the base; read once.

        Raises:
            TrainingError, MaskingError: Data or base can't be used.
        """
        if task not in self._settings:
            self._settings[task] = prepare(self._options(task))
        return self._settings[task]

    def get(self, task: str, method: Method, *, seed: int = 0, **changes: Any) -> Run:
        """Return a run, learned now if it isn't there yet.

        Args:
            task: One of `TASKS`.
            method: How to learn it.
            seed: Seed of the run.
            changes: Options of learning that differ from the scale's.

        Raises:
            DivergedError: The loss became infinite or not a number.
            TrainingError, MaskingError: See `training.runs.learn.learn`.
        """
        fixed = _MASK_ONLY if method == "finetuning" else {}
        settings = {"lr": self.scale.rates[method], "seed": seed, **changes, **fixed}
        setting = self.setting(task).varied(**settings)
        identity = setting.identity_for(METHODS[method])
        folder = self.folder / setting.base.info.name / task
        results = Results(folder / "results.jsonl", weights=folder)
        if results.get(identity) is None:
            logger.info(f"{task}: {method}, seed {seed}{_listed(changes)}")
        runner = Runner(results, folder / f"unfinished-{short_hash(identity)}", list(self._callbacks()))
        result = runner.run(setting, METHODS[method])
        if result.end == "diverged":
            raise DivergedError(f"{task}: {method}, seed {seed}: {result}")
        return Run(task, method, result, identity, setting, results)

    def _options(self, task: str) -> LearnOptions:
        paper, scale = TASKS[task], self.scale
        files = task_files(paper, self._data, (scale.train_rows, scale.dev_rows), self.folder / "samples")
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
