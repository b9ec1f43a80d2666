"""Settings of one learning run: frozen, checked at once, and what the command line is generated from.

`LearnOptions` is made of three models, so that each part of the program takes only its own: `DataOptions` are
the labelled data, `LoopOptions` one training run, `MaskSettings` the mask. Description, bounds, choices,
default and the group in ``--help`` are on the field. An alias is the name of the option on the command line,
in run identities and in manifests, where the field has another.

Defaults are the paper's (Zhao et al., EMNLP 2020), except `lr`, `head` and `long_sentences`; the preset
``paper`` is its setting whole. What can only be known with data and model (whether a block exists in the
base, whether a column is in the file) is checked where they are used.
"""

import codecs
import glob
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from mask_store import HeadMode, JsonScalar, Pooling, TaskKind
from masking.learning.settings import MaskSettings
from training.errors import OptionsError
from training.paper import task_batch_size, task_rate

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]
CopyForm = Literal["sign", "mask"]
CopyEmbeddings = Literal["base", "changed"]
Role = Literal["text", "pair", "label", "tokens", "tags", "context", "choices"]
Metric = Literal[
    "accuracy",
    "matthews_correlation",
    "f1",
    "f1_macro",
    "f1_micro",
    "pearson",
    "spearman",
    "average_precision",
    "ndcg",
    "mrr",
    "cosine",
]
Method = Literal["mask", "finetune"]
Preset = Literal["paper"]
Tracker = Literal["mlflow", "wandb"]
ClassWeights = Literal["balanced"]
LongSentences = Literal["cut"]

DEFAULT_LR: dict[Method, float] = {"mask": 1e-3, "finetune": 5e-5}

ROLES: dict[TaskKind, tuple[Role, ...]] = {
    "sequence-classification": ("text", "pair", "label"),
    "token-classification": ("tokens", "tags"),
    "multiple-choice": ("context", "choices", "label"),
    "multi-label-classification": ("text", "pair", "label"),
    "regression": ("text", "pair", "label"),
    "reranking": ("text", "pair", "label"),
    "embedding": ("text", "pair", "label"),
}
METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "sequence-classification": ("accuracy", "matthews_correlation", "f1_macro", "f1"),
    "token-classification": ("accuracy", "f1"),
    "multiple-choice": ("accuracy",),
    "multi-label-classification": ("f1_micro", "f1_macro", "accuracy"),
    "regression": ("pearson", "spearman"),
    "reranking": ("average_precision", "ndcg", "mrr"),
    "embedding": ("spearman", "pearson", "accuracy", "mrr", "cosine"),
}
WEIGHTED_KINDS: tuple[TaskKind, ...] = (
    "sequence-classification",
    "token-classification",
    "multi-label-classification",
)
# Names that others have for the kinds: pipeline tags and problem types of Hugging Face.
KIND_NAMES: Mapping[str, TaskKind] = {
    "text-classification": "sequence-classification",
    "single_label_classification": "sequence-classification",
    "multi_label_classification": "multi-label-classification",
    "multi-label": "multi-label-classification",
    "text-regression": "regression",
    "text-ranking": "reranking",
    "rerank": "reranking",
    "feature-extraction": "embedding",
    "sentence-similarity": "embedding",
    "embeddings": "embedding",
    "ner": "token-classification",
    "pos": "token-classification",
}
# All that decides a mask but data, base, seed and the learning rate. What is None goes beyond the paper, and
# is off. Of the paper's tasks each has a rate, and some another batch size: see `preset_values`.
PRESETS: Mapping[Preset, Mapping[str, JsonScalar]] = {
    "paper": {
        "epochs": 10,
        "patience": 2,
        "batch_size": 32,
        "accumulate": 1,
        "group_by_length": False,
        "precision": "fp32",
        "max_length": 128,
        "long_sentences": "cut",
        "blocks": "2-",
        "initial_sparsity": 0.05,
        "threshold": 0.01,
        "score_low": -0.02,
        "head": "masked",
        "average": None,
        "final_sparsity": None,
        "head_lr": None,
        "keep_epoch": None,
        "class_weights": None,
    }
}
# A new setting that decides the mask goes into the preset, and so into the identity of a run.
EXTRA_SETTINGS = tuple(name for name, value in PRESETS["paper"].items() if value is None)
LEARNING_SETTINGS = ("kind", "lr", "seed", *PRESETS["paper"])
MIN_TOKENS = 8
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
MAX_SEED = 2**32 - 1
DEFAULT_SHARE = 0.1
RUNS = Path("runs")

_OUT_OF_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


class _Options(BaseModel):
    """Base of the parts: immutable, strict, finite; fields are set by their names or their options' names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _list_mistakes(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise OptionsError([_problem(mistake) for mistake in error.errors()]) from None


def _field(group: str, description: str, default: Any, metavar: str | None = None, **rules: Any) -> Any:
    """Make a field with a default; its group and metavar are those of ``--help``."""
    extra: Any = {"group": group, "metavar": metavar}
    return Field(default, description=description, json_schema_extra=extra, **rules)


def _column(role: Role) -> Any:
    return _field("data", f"column of the {role}, where named otherwise", None, "NAME")


class DataOptions(_Options):
    """The task and its labelled data: two files, or two splits of a dataset."""

    task: str = Field(
        description="name to publish under: a-z, 0-9, . _ -",
        json_schema_extra={"group": "task", "metavar": "NAME"},
    )
    kind: TaskKind = Field(description="what the task predicts", json_schema_extra={"group": "task"})
    train: tuple[str, ...] | None = _field(
        "data", "labelled rows to learn from; several files or a pattern are read as one", None, "FILE"
    )
    dev: tuple[str, ...] | None = _field(
        "data", "labelled rows to choose the best epoch by (a share of --train)", None, "FILE"
    )
    validation_share: float | None = _field(
        "data",
        f"share of the rows of --train to choose by, instead of --dev ({DEFAULT_SHARE:g} without)",
        None,
        "SHARE",
        gt=0,
        lt=1,
    )
    split_seed: int = _field(
        "data", "decides which rows of --train those are, whatever --seed is", 0, ge=0, le=MAX_SEED
    )
    dataset: str | None = _field(
        "data",
        "hub dataset, or a folder of one, instead of --train and --dev",
        None,
        "ID[:CONFIG]",
        validate_default=True,
    )
    train_split: str = _field("data", "its split to learn from", "train", "SPLIT")
    dev_split: str | None = _field(
        "data",
        "its split to choose by (validation; where there is none, a share of the other)",
        None,
        "SPLIT",
    )
    encoding: str | None = _field(
        "data", "encoding of text files (that of their byte order mark, or UTF-8)", None, "NAME"
    )
    delimiter: str | None = _field(
        "data",
        f"what is between fields of CSV: {', '.join(DELIMITERS)} or a character (found by trying)",
        None,
        "NAME",
    )
    missing_label: str | None = _field(
        "data",
        "label of rows that have none, which are left out; '' for no such label (-1 where the others are "
        "0, 1, 2 and so on)",
        None,
        "LABEL",
    )
    label_separator: str | None = _field(
        "data",
        f"what is between the labels of a cell, where a text may have several: {', '.join(DELIMITERS)} or a "
        "character; '' for nothing (found by trying)",
        None,
        "NAME",
    )
    text_column: str | None = _column("text")
    pair_column: str | None = _column("pair")
    label_column: str | None = _column("label")
    tokens_column: str | None = _column("tokens")
    tags_column: str | None = _column("tags")
    context_column: str | None = _column("context")
    choices_column: str | None = _column("choices")
    metric: Metric | None = _field(
        "data",
        "dev metric to choose by (accuracy; f1 for tags that mark entities; f1_micro for several labels; "
        "pearson; average_precision for reranking; of embeddings spearman, or accuracy of pairs without a "
        "similarity)",
        None,
    )
    pooling: Pooling | None = _field(
        "data",
        "what an embedding is made of: the mean of a text's tokens, or [CLS] (as the base's files of "
        "sentence-transformers say, else mean)",
        None,
    )
    max_length: int = _field("data", "tokens that longer inputs are cut to", 128, ge=MIN_TOKENS)
    long_sentences: LongSentences | None = _field(
        "data",
        "cut, as in the paper: words of a longer sentence that end beyond --max-length are neither learned "
        "nor measured (such a sentence becomes overlapping windows)",
        None,
    )

    @property
    def held_share(self) -> float | None:
        """Share of the rows to learn from that are kept to choose by; None where others are named."""
        without = not self.dev and (not self.dataset or self.validation_share)
        return (self.validation_share or DEFAULT_SHARE) if without else None

    @property
    def columns(self) -> dict[Role, str | None]:
        """Column named for each role of this kind of task; None where the default name is to be used."""
        return {role: getattr(self, f"{role}_column") for role in ROLES[self.kind]}

    @property
    def delimiter_character(self) -> str | None:
        """The delimiter as it stands in the file."""
        return DELIMITERS.get(self.delimiter, self.delimiter) if self.delimiter else None

    @property
    def separator_character(self) -> str | None:
        """What is between labels as it stands in a cell; None to find it."""
        return DELIMITERS.get(self.label_separator or "", self.label_separator)

    @field_validator("kind", mode="before")
    @classmethod
    def _by_our_name(cls, kind: Any) -> Any:
        return KIND_NAMES.get(kind, kind) if isinstance(kind, str) else kind

    @field_validator("train", "dev", mode="before")
    @classmethod
    def _are_there(cls, given: Any, info: ValidationInfo) -> Any:
        """Take one path, or several, or patterns."""
        if given is None:
            return None
        paths = [str(given)] if isinstance(given, str | Path) else [str(path) for path in given]
        found: list[str] = []
        for path in paths:
            matching = (
                [path] if Path(path).is_file() else [one for one in _matching(path) if Path(one).is_file()]
            )
            if not matching:
                reason = "no such file"
                if Path(path).is_dir():
                    reason = f"a folder; name its files, such as '{path}/*.jsonl', or give --dataset {path}"
                raise _sentence(f"--{info.field_name} {path}: {reason}")
            found += matching
        return tuple(dict.fromkeys(found)) or None

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, encoding: str | None) -> str | None:
        try:
            codecs.lookup(encoding or "utf-8")
        except LookupError:
            raise ValueError("there is no such encoding; common ones are utf-8, utf-16, cp1252") from None
        return encoding

    @field_validator("delimiter")
    @classmethod
    def _is_a_delimiter(cls, delimiter: str | None) -> str | None:
        character = DELIMITERS.get(delimiter or "comma", delimiter)
        if len(character or "") != 1 or character in {'"', "\n", "\r"}:
            raise ValueError(f"must be one character, or {', '.join(DELIMITERS)}")
        return delimiter

    @field_validator("missing_label")
    @classmethod
    def _has_no_space_around(cls, label: str | None) -> str | None:
        return label if label is None else label.strip()

    @field_validator("dataset")
    @classmethod
    def _one_source(cls, dataset: str | None, info: ValidationInfo) -> str | None:
        files = {f"--{name}": info.data.get(name, "not usable") for name in ("train", "dev")}
        given = " and ".join(name for name, path in files.items() if path)
        if info.data.get("validation_share") and files["--dev"]:
            raise _sentence("--validation-share takes the place of --dev: give one or the other")
        if dataset and given:
            raise _sentence(f"--dataset takes the place of {given}: give one or the other")
        if not files["--train"] and not dataset:
            raise _sentence(
                "--train missing: give --train FILE, and --dev FILE if there is one, or --dataset ID"
            )
        return dataset

    @field_validator(*(f"{role}_column" for role in get_args(Role)))
    @classmethod
    def _has_role(cls, column: str | None, info: ValidationInfo) -> str | None:
        kind, role = info.data.get("kind"), str(info.field_name).removesuffix("_column")
        if column and kind and role not in ROLES[kind]:
            raise ValueError(f"not a column of a task of {kind}, which has {', '.join(ROLES[kind])}")
        return column

    @field_validator("pooling")
    @classmethod
    def _is_pooled(cls, pooling: Pooling | None, info: ValidationInfo) -> Pooling | None:
        kind = info.data.get("kind")
        if pooling and kind and kind != "embedding":
            raise ValueError("only a task of embedding has one")
        return pooling

    @field_validator("metric")
    @classmethod
    def _is_measured(cls, metric: Metric | None, info: ValidationInfo) -> Metric | None:
        kind = info.data.get("kind")
        if metric and kind and metric not in METRICS[kind]:
            raise ValueError(f"not measured for {kind}: choose from {', '.join(METRICS[kind])}")
        return metric


class LoopOptions(_Options):
    """One training run: the optimizer, batches, epochs, and what is written on the way."""

    lr: float = _field(
        "learning",
        f"Adam's rate, constant, {DEFAULT_LR['finetune']:g} in finetuning; that of masks belongs to the "
        "range that scores start in, so another --initial-sparsity, --threshold or --score-low wants another",
        DEFAULT_LR["mask"],
        gt=0,
    )
    epochs: int = _field("learning", "most passes over the training rows", 10, ge=1)
    patience: int = _field("learning", "stop after so many epochs without gain", 2, ge=1)
    batch_size: int = _field("learning", "examples in a batch; the paper: 128 for large sets", 32, ge=1)
    gradient_accumulation_steps: int = _field(
        "learning",
        "batches a step of Adam: as one batch N times the size, in the memory of one",
        1,
        "N",
        alias="accumulate",
        ge=1,
    )
    group_by_length: bool = _field("learning", "batches of inputs of similar length: less padding", False)
    precision: Precision = _field(
        "learning",
        "bf16: matrix products in bfloat16, what is learned in float32; faster where the processor has it",
        "fp32",
    )
    seed: int = _field("learning", "decides scores, head, order and dropout", 0, ge=0, le=MAX_SEED)
    ema_decay: float | None = _field(
        "extras",
        "take masks from an exponential moving average of the scores over the steps; 0.99 looks back about "
        "100 steps",
        None,
        "DECAY",
        alias="average",
        gt=0,
        lt=1,
    )
    final_sparsity: float | None = _field(
        "extras",
        "share of zeros to end with; the threshold moves there over the first half of --epochs, and only "
        "epochs from then on can be the best",
        None,
        "SHARE",
        gt=0,
        lt=1,
    )
    head_lr: float | None = _field("extras", "Adam's rate on a head that is trained (--lr)", None, gt=0)
    keep_epoch: int | None = _field(
        "extras", "end after so many epochs and keep the last, whichever is best on dev", None, "N", ge=1
    )
    class_weights: ClassWeights | None = _field(
        "extras",
        "balanced: in the loss each label weighs as much as any other, however rare it is (each row or word "
        "weighs the same)",
        None,
    )
    save_steps: int | None = _field(
        "run", "a checkpoint every N steps too, not only every epoch", None, "N", ge=1
    )
    tensorboard: str | None = _field(
        "run", "folder for TensorBoard: loss, dev metrics, sparsity, flip rate", None, "DIR"
    )
    track: tuple[Tracker, ...] | None = _field(
        "run",
        "send the same to MLflow or Weights & Biases, which their environment variables configure "
        "(MLFLOW_TRACKING_URI, WANDB_MODE and so on)",
        None,
    )

    @field_validator("track", mode="before")
    @classmethod
    def _are_trackers(cls, given: Any) -> Any:
        return tuple(dict.fromkeys(given)) if isinstance(given, list) else given

    @property
    def max_epochs(self) -> int:
        """Epochs after which the run ends at the latest."""
        return self.keep_epoch or self.epochs

    @field_validator("keep_epoch")
    @classmethod
    def _is_reached(cls, epoch: int | None, info: ValidationInfo) -> int | None:
        if epoch and epoch > info.data.get("epochs", epoch):
            raise ValueError(f"there are {info.data['epochs']} --epochs")
        if epoch and info.data.get("final_sparsity"):
            raise ValueError("does not go together with --final-sparsity")
        return epoch


class LearnOptions(LoopOptions, MaskSettings, DataOptions):
    """Everything that one run of `training.learn` is given.

    Raises:
        OptionsError: When built with values that don't make sense; lists every mistake.
    """

    base: str = Field(
        description="pretrained encoder: hub id or folder",
        json_schema_extra={"group": "task", "metavar": "ID_OR_FOLDER"},
    )
    revision: str | None = _field(
        "task", "branch, tag or commit of the base on the hub", None, "REVISION", min_length=1
    )
    store: str | None = _field(
        "task", "store to publish masks to, made if absent: folder or URL", None, "DIR"
    )
    head: HeadMode = _field("masks", MaskSettings.model_fields["head"].description or "", "trained")
    device: Device = _field("run", "where to learn; auto is the GPU where there is one", "auto")
    threads: int | None = _field("run", "CPU threads (torch's choice)", None, ge=1)
    run_dir: str | None = _field("run", "folder of checkpoints (runs/NAME)", None, "DIR")
    force: bool = _field(
        "run", "publish a mask that is no better on dev than always giving one answer", False
    )
    fresh: bool = _field(
        "run", "drop an unfinished run there instead of resuming it (a file of results stays as it is)", False
    )

    @property
    def run_folder(self) -> Path:
        """Folder of this run's checkpoints."""
        return Path(self.run_dir) if self.run_dir else RUNS / self.task

    def learning_settings(self) -> dict[str, JsonScalar]:
        """Return the settings that decide, with base and data, which mask is learned, by options' names.

        Those beyond the paper are left out where they are off: they decide nothing then.
        """
        values = self.model_dump(by_alias=True)
        return {name: values[name] for name in LEARNING_SETTINGS if values[name] is not None}

    def replaced(self, **changes: Any) -> Self:
        """Return the same options but for some values, by names of fields or of options.

        Raises:
            OptionsError: They don't make sense; lists every mistake.
        """
        values = self.model_dump(by_alias=True)
        return type(self)(**values | {option_name(name): value for name, value in changes.items()})

    @field_validator("store")
    @classmethod
    def _is_no_file(cls, store: str | None) -> str | None:
        if store and Path(store).is_file():
            raise _sentence(f"--store {store}: that is a file; name a folder or a URL")
        return store

    @field_validator("class_weights")
    @classmethod
    def _has_classes(cls, weights: ClassWeights | None, info: ValidationInfo) -> ClassWeights | None:
        kind = info.data.get("kind")
        if weights and kind and kind not in WEIGHTED_KINDS:
            raise ValueError(f"a {kind} task has no classes to weigh")
        return weights

    @field_validator("head_lr")
    @classmethod
    def _has_trained_head(cls, head_lr: float | None, info: ValidationInfo) -> float | None:
        if head_lr is not None and info.data.get("head") != "trained":
            raise ValueError("a masked head does not learn; it goes with --head trained only")
        return head_lr


def option_name(name: str) -> str:
    """Return the name of the option that sets a field: the field's alias, or else its own name."""
    field = LearnOptions.model_fields.get(name)
    return (field.alias if field else None) or name


def preset_values(preset: Preset | None, given: Mapping[str, Any], method: Method) -> dict[str, JsonScalar]:
    """Return what a preset sets for a task: its values for all tasks, and the paper's rate and batch size.

    Args:
        preset: Name of the preset; None for none.
        given: Values by names of options, ``task`` and ``base`` among them.
        method: How the task is learned.

    Returns:
        Values by names of options; without `lr` where the paper has no rate for the task on the base.
    """
    if preset is None:
        return {}
    base, task = str(given.get("base")), str(given.get("task"))
    own = {"batch_size": task_batch_size(task), "lr": task_rate(base, method, task)}
    return {**PRESETS[preset], **{name: value for name, value in own.items() if value is not None}}


def options_of(
    given: Mapping[str, Any], preset: Preset | None = None, method: Method = "mask"
) -> LearnOptions:
    """Return options of the values that are given, of a preset, and of the defaults for the rest.

    Args:
        given: Values by names of options. The rate may be given beside a preset.
        preset: Name of the preset; None for none.
        method: How the task is learned, which the rate depends on.

    Raises:
        OptionsError: A value makes no sense, or is set by the preset as well; lists every mistake.
    """
    values = preset_values(preset, given, method)
    problems = [
        f"{_flag(name)}: --preset {preset} sets it; leave out one of the two"
        for name in given
        if name in values and name != "lr"
    ]
    try:
        options = LearnOptions(**{"lr": DEFAULT_LR[method], **values, **given})
    except OptionsError as error:
        raise OptionsError([*problems, *error.problems]) from None
    if problems:
        raise OptionsError(problems)
    return options


def _matching(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _sentence(text: str) -> PydanticCustomError:
    """Make an error with a text of its own, without the name and the value of its field."""
    return PydanticCustomError("sentence", "{text}", {"text": text})


def _problem(mistake: Any) -> str:
    name = str(mistake["loc"][0])
    match mistake["type"]:
        case "sentence":
            return str(mistake["msg"])
        case "missing":
            return f"{_flag(name)} missing"
        case "extra_forbidden":
            return f"{_flag(name)}: there is no such option"
    field = next(field for key, field in LearnOptions.model_fields.items() if name in (key, field.alias))
    return f"{_flag(name)} {mistake['input']}: {broken_rule(field, mistake)}"


def broken_rule(field: FieldInfo, mistake: Any) -> str:
    """Say what a value must be: in the words of a validator, or by the field's choices or bounds.

    Args:
        field: The option's field.
        mistake: One of the `errors()` of pydantic's error about it.
    """
    if mistake["type"] == "value_error":
        return str(mistake["ctx"]["error"])
    if mistake["type"] == "literal_error":
        return f"not one of {', '.join(choices_of(field))}"
    if mistake["type"] in _OUT_OF_BOUNDS:
        return _bounds(field)
    return str(mistake["msg"])


def _bounds(field: FieldInfo) -> str:
    match {key: value for bound in field.metadata for key, value in asdict(bound).items()}:
        case {"gt": low, "lt": high}:
            return f"must lie between {low} and {high}"
        case {"ge": low, "le": high}:
            return f"must be {low} to {high}"
        case {"gt": low}:
            return f"must be a number above {low}"
        case {"ge": low}:
            return f"must be at least {low}"
    return "must be a finite number"


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the values that a field can have, where they are listed; none else."""
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if get_origin(kind) is Literal]
    return get_args(kinds[0]) if kinds else ()
