"""Trained runs, kept in a folder, so that every table and figure learns only what no other has learned yet.

A run is one task learned by one method with one seed and one set of settings. Its folder holds ``run.json``
(settings and what they came to) and ``learned.safetensors`` (scores of a mask, or finetuned weights). A
command that is killed goes on with what is there.
"""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import parametrize
from transformers import TrainerCallback

import training.options
from experiments.common.tasks import TASKS, task_files
from mask_store import pack_bits
from masking import FinetunedModel, MaskedModel, MaskScores, TaskModel
from masking.tasks import MODEL_KINDS
from training.loop.history import best_epoch, epoch_records
from training.loop.run_folder import RunFolder
from training.options import EXTRA_SETTINGS, LearnOptions
from training.runs.learn import learn_model
from training.runs.preparation import Preparation, prepare

logger = logging.getLogger(__name__)

Method = Literal["masking", "finetuning"]
METHODS: tuple[Method, ...] = ("masking", "finetuning")
RECORD_FILE = "run.json"
LEARNED_FILE = "learned.safetensors"
FLOAT_BYTES = 4
_METHODS: dict[Method, training.options.Method] = {"masking": "mask", "finetuning": "finetune"}
_MASK_ONLY = ("blocks", "initial_sparsity", "threshold", "score_low", "head", *EXTRA_SETTINGS)


@dataclass(frozen=True)
class Scale:
    """How much is learned from, and how.

    Attributes:
        name: ``quick`` or ``full``, to say in every result.
        train_rows: most training rows of a task; None for all.
        dev_rows: most dev rows of a task; None for all.
        options: fields of `LearnOptions` for both methods.
        rates: learning rate of each method.
    """

    name: str
    train_rows: int | None
    dev_rows: int | None
    options: Mapping[str, Any]
    rates: Mapping[Method, float]


@dataclass(frozen=True)
class Run:
    """What one run came to.

    Attributes:
        task: name of the task.
        method: how it was learned.
        seed: seed of head, scores, order and dropout.
        metric: name of the dev metric.
        value: its value at the best epoch, 0 to 1 (a Matthews correlation may be below 0).
        metrics: every dev metric at the best epoch.
        epochs: what each epoch came to.
        nbytes: bytes of the packed masks, or of the finetuned copy.
        seconds: time learning took; of the last process alone where a killed run was gone on with.
        rows: rows of train and dev.
        settings: every setting that decided what was learned.
        folder: where the run is kept.
        setting: what it was learned from.
    """

    task: str
    method: Method
    seed: int
    metric: str
    value: float
    metrics: dict[str, float]
    epochs: list[dict[str, Any]]
    nbytes: int
    seconds: float
    rows: tuple[int, int]
    settings: dict[str, Any]
    folder: Path
    setting: Preparation = dataclasses.field(repr=False)

    def model(self) -> TaskModel:
        """The model as it was at the best epoch: a `MaskedModel` or a `FinetunedModel`."""
        model = _new_model(self.setting, self.method)
        model.load_learned_state(load_file(self.folder / LEARNED_FILE))
        return model.eval()

    def weights(self) -> dict[str, Tensor]:
        """Dense float32 weights by name, W * M where there is a mask; the same names for both methods."""
        return dense_weights(self.model())

    @property
    def task_bytes(self) -> int:
        """Bytes that the task takes beside the base: masks and head, or the finetuned copy."""
        return self.nbytes + (head_bytes(self.setting) if self.method == "masking" else 0)

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
        callbacks: Callable[[], Iterable[TrainerCallback]] = tuple,
    ) -> None:
        """Use runs in a folder.

        Args:
            folder: where runs are kept; made if absent.
            base: hub id or folder of the pretrained encoder.
            scale: how much to learn from.
            data: folder of the tasks' files; None for the hub.
            callbacks: makes callbacks for each run's loop, such as a progress bar.
        """
        self.folder = folder
        self.base = base
        self.scale = scale
        self._data = data
        self._callbacks = callbacks
        self._settings: dict[str, Preparation] = {}

    def setting(self, task: str) -> Preparation:
        """A task's data, encoded, with the base; read once.

        Raises:
            TrainingError, MaskingError: data or base can't be used.
        """
        if task not in self._settings:
            self._settings[task] = prepare(self._options(task))
        return self._settings[task]

    def get(self, task: str, method: Method, *, seed: int = 0, **changes: Any) -> Run:
        """A run, learned now if it isn't there yet.

        Args:
            task: one of `TASKS`.
            method: how to learn it.
            seed: seed of the run.
            changes: fields of `LearnOptions` that differ from the scale's.

        Raises:
            TrainingError, MaskingError: see `training.runs.learn.learn`.
        """
        settings = {"lr": self.scale.rates[method], "seed": seed, **changes}
        setting = self.setting(task).varied(**settings)
        identity = _identity(setting, method)
        folder = self.folder / setting.base.info.name / task / f"{method}-{_short_hash(identity)}"
        if not (folder / RECORD_FILE).is_file():
            logger.info(f"{task}: {method}, seed {seed}{_told(changes)}")
            self._learn(setting, method, identity, folder)
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        record["rows"] = tuple(record["rows"])
        return Run(**record, folder=folder, setting=setting)

    def _options(self, task: str) -> LearnOptions:
        paper, scale = TASKS[task], self.scale
        files = task_files(paper, self._data, (scale.train_rows, scale.dev_rows), self.folder / "samples")
        return LearnOptions(
            task=task,
            kind=paper.kind,
            base=self.base,
            train=files.train,
            dev=files.dev,
            metric=paper.metric,
            **files.columns,
            **scale.options,
        )

    def _learn(self, setting: Preparation, method: Method, identity: dict[str, Any], folder: Path) -> None:
        started = time.monotonic()
        with RunFolder.open(folder / "unfinished", identity) as unfinished:
            model = _new_model(setting, method)
            state, _ = learn_model(
                model, setting, _METHODS[method], unfinished, callbacks=list(self._callbacks())
            )
            records = epoch_records(state)
            best = records[best_epoch(state) - 1]
            save_file(model.learned_state(), folder / LEARNED_FILE)
            record = {
                "task": setting.options.task,
                "method": method,
                "seed": setting.options.seed,
                "metric": setting.metric,
                "value": best.metrics[setting.metric],
                "metrics": best.metrics,
                "epochs": [dataclasses.asdict(epoch) for epoch in records],
                "nbytes": _nbytes(model),
                "seconds": round(time.monotonic() - started, 1),
                "rows": [len(setting.encoded.train), len(setting.encoded.dev)],
                "settings": identity,
            }
            _write_json(folder / RECORD_FILE, record)
            unfinished.finish({})


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
    """An unmasked model of a task in evaluation mode.

    Args:
        setting: the task and its base.
        weights: as `dense_weights` gives them; None for the pretrained ones with a random head.
    """
    model = FinetunedModel.create(setting.base, setting.spec, seed=setting.options.seed)
    if weights is not None:
        model.load_learned_state(weights)
    return model.eval()


def _new_model(setting: Preparation, method: Method) -> TaskModel:
    seed = setting.options.seed
    if method == "finetuning":
        return FinetunedModel.create(setting.base, setting.spec, seed=seed)
    return MaskedModel.create(setting.base, setting.spec, setting.options, seed=seed)


def _identity(setting: Preparation, method: Method) -> dict[str, Any]:
    identity = {"method": method, **setting.identity}
    if method == "finetuning":
        identity = {name: value for name, value in identity.items() if name not in _MASK_ONLY}
    values: dict[str, Any] = json.loads(json.dumps(identity))
    return values


def _short_hash(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def _told(changes: Mapping[str, Any]) -> str:
    return "".join(f", {name} {value}" for name, value in changes.items())


def head_bytes(setting: Preparation) -> int:
    """Bytes of the head that travels with masks: the classifier, and the pooler where it is random."""
    width = setting.base.hidden_size
    kind = MODEL_KINDS[setting.spec.kind]
    rows = kind.outputs(setting.spec.labels)
    if kind.pooled and setting.base.pooler is None:
        rows += width
    return FLOAT_BYTES * rows * (width + 1)


def _nbytes(model: TaskModel) -> int:
    if isinstance(model, MaskedModel):
        return sum(pack_bits(mask.numpy()).nbytes for mask in _masks(model, lambda own: own.mask()).values())
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _masks(model: TaskModel, read: Callable[[MaskScores], Tensor]) -> dict[str, Tensor]:
    masks = model.masks if isinstance(model, MaskedModel) else {}
    return {name: read(mask).cpu() for name, mask in masks.items()}


def _write_json(path: Path, value: object) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
