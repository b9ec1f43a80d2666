"""The settings of one learning run: one frozen object, built at the start and passed down.

Defaults are those of the paper (Zhao et al., EMNLP 2020), except `lr` and `head`; `training.presets` has the
paper's setting whole. Nothing here reads data, loads a model or imports torch; what can only be known with
them (whether a block exists in the base, whether a column is in the file) is checked where it is used.
"""

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from mask_store import HeadMode, JsonScalar, ScoreGradient, ScoreInit, TaskKind
from training.errors import OptionsError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]
Role = Literal["text", "pair", "label", "tokens", "tags", "context", "choices"]
Metric = Literal["accuracy", "matthews_correlation", "f1"]
Method = Literal["mask", "finetune"]

DEFAULT_LR: dict[Method, float] = {"mask": 1e-3, "finetune": 5e-5}

ROLES: dict[TaskKind, tuple[Role, ...]] = {
    "sequence-classification": ("text", "pair", "label"),
    "token-classification": ("tokens", "tags"),
    "multiple-choice": ("context", "choices", "label"),
}
METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "sequence-classification": ("accuracy", "matthews_correlation"),
    "token-classification": ("accuracy", "f1"),
    "multiple-choice": ("accuracy",),
}
# What goes beyond the paper, and the value by which each is off.
EXTRA_SETTINGS: dict[str, JsonScalar] = {
    "score_init": "uniform",
    "score_gradient": "straight-through",
    "temperature": None,
    "final_sparsity": None,
    "average": None,
    "scale_lr": False,
    "head_lr": None,
}
LEARNING_SETTINGS = (
    *("kind", "lr", "epochs", "patience", "batch_size", "accumulate", "group_by_length", "precision"),
    *("max_length", "blocks", "initial_sparsity", "threshold", "score_low", "head", "seed"),
    *EXTRA_SETTINGS,
)
MIN_TOKENS = 8
MAX_SEED = 2**32 - 1

_BLOCK_RANGE = re.compile(r"(\d{1,4})(-(\d{0,4}))?")


@dataclass(frozen=True, kw_only=True)
class LearnOptions:
    """Everything that one run of `training.runs.learn.learn` is told.

    Attributes:
        task: name to publish under.
        kind: kind of task.
        base: hub id or folder of the pretrained encoder.
        store: folder or URL of the mask store; None where nothing is to be published.
        train: file of labelled rows to learn from; None with `dataset`.
        dev: file of labelled rows to choose the best epoch by; None with `dataset`.
        dataset: ``ID[:CONFIG]`` of a hub dataset, in place of the two files.
        train_split: split of `dataset` to learn from.
        dev_split: split of `dataset` to choose the best epoch by.
        text_column: and the other columns: None stands for the default names, see `training.data.examples`.
        lr: Adam's learning rate on the scores; belongs to the score range (`score_low` to the high end that
            `initial_sparsity` implies): another range wants another rate.
        scale_lr: whether `lr` is meant for the paper's score range, 0.60 wide, and is scaled to this run's.
        head_lr: Adam's learning rate on a trained head; None for `lr`, unscaled.
        average: decay of the moving average of scores from which masks are taken; None for the last scores.
        epochs: most passes over the training rows.
        patience: epochs without gain in the dev metric after which learning stops.
        batch_size: examples in a batch, which several processes share out evenly.
        accumulate: batches a step of Adam: as one batch so many times the size.
        group_by_length: make batches of inputs of similar length, in random order: less padding.
        precision: ``fp32``, or ``bf16`` for autocast: the base's matrix products in bfloat16, scores, their
            gradients' sums in Adam, and evaluation in float32.
        max_length: tokens an input is cut at, special tokens included.
        blocks: blocks to mask, such as ``2-`` (2 to last), ``2-11`` or ``0,3,8-11``.
        initial_sparsity: share of zeros that the masks start with.
        threshold: tau, at and above which a score keeps its weight.
        score_low: low end of the uniform distribution the scores start from.
        score_init: which weight gets which initial score: ``uniform``, or ``magnitude`` for the lowest scores
            to the smallest weights.
        score_gradient: what a bit's gradient is times, to be its score's: ``straight-through`` for 1, or
            ``sigmoid`` for a slope that is 1 at the threshold and falls with the distance from it.
        temperature: width of that slope in units of scores; for ``sigmoid``, and needed there.
        final_sparsity: share of zeros to end with, over all masks together; None for no target.
        head: ``masked`` (random, frozen, masked) or ``trained`` (dense).
        seed: seed of scores, head, shuffling and dropout.
        device: where to learn; ``auto`` is the GPU where there is one.
        threads: CPU threads of torch; None leaves its own choice.
        metric: dev metric to choose the best epoch by; None for the default of the kind.
        run_dir: folder for checkpoints; None for ``runs/<task>``.
        fresh: drop an unfinished run in `run_dir` instead of going on with it.
        save_steps: steps after which to write a checkpoint within an epoch; None for none but at its end.
        tensorboard: folder for TensorBoard, where each run has a subfolder; None for none.

    Raises:
        OptionsError: when built with values that don't make sense; lists every mistake.
    """

    task: str
    kind: TaskKind
    base: str
    store: str | None = None
    train: str | None = None
    dev: str | None = None
    dataset: str | None = None
    train_split: str = "train"
    dev_split: str = "validation"
    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    tokens_column: str | None = None
    tags_column: str | None = None
    context_column: str | None = None
    choices_column: str | None = None
    lr: float = DEFAULT_LR["mask"]
    scale_lr: bool = False
    head_lr: float | None = None
    average: float | None = None
    epochs: int = 10
    patience: int = 2
    batch_size: int = 32
    accumulate: int = 1
    group_by_length: bool = False
    precision: Precision = "fp32"
    max_length: int = 128
    blocks: str = "2-"
    initial_sparsity: float = 0.05
    threshold: float = 0.01
    score_low: float = -0.02
    score_init: ScoreInit = "uniform"
    score_gradient: ScoreGradient = "straight-through"
    temperature: float | None = None
    final_sparsity: float | None = None
    head: HeadMode = "trained"
    seed: int = 0
    device: Device = "auto"
    threads: int | None = None
    metric: Metric | None = None
    run_dir: str | None = None
    fresh: bool = False
    save_steps: int | None = None
    tensorboard: str | None = None

    def __post_init__(self) -> None:
        """Check everything at once."""
        problems = [
            *(*self._data_problems(), *self._kind_problems()),
            *(*self._number_problems(), *self._extra_problems(), *self._choice_problems()),
        ]
        if problems:
            raise OptionsError(problems)

    @property
    def columns(self) -> dict[Role, str | None]:
        """Column named for each role of this kind of task; None where the default name is to be used."""
        return {role: self._column(role) for role in ROLES[self.kind]}

    @property
    def run_folder(self) -> Path:
        """Folder of this run's checkpoints."""
        return Path(self.run_dir) if self.run_dir else Path("runs") / self.task

    def learning_settings(self) -> dict[str, JsonScalar]:
        """Return the settings that decide, with base and data, which mask is learned.

        Those beyond the paper are left out where they are off: they decide nothing then.
        """
        values = asdict(self)
        off = {name for name, value in EXTRA_SETTINGS.items() if values[name] == value}
        return {name: values[name] for name in LEARNING_SETTINGS if name not in off}

    def _column(self, role: str) -> str | None:
        value: str | None = getattr(self, f"{role}_column")
        return value

    def _data_problems(self) -> list[str]:
        files = {"--train": self.train, "--dev": self.dev}
        given = [name for name, path in files.items() if path]
        if self.dataset and given:
            return [f"--dataset takes the place of {' and '.join(given)}: give one or the other"]
        if not self.dataset and len(given) < len(files):
            missing = " and ".join(name for name, path in files.items() if not path)
            return [f"{missing} missing: give --train FILE and --dev FILE, or --dataset ID"]
        absent = [(name, path) for name, path in files.items() if path and not Path(path).is_file()]
        return [f"{name} {path}: no such file" for name, path in absent]

    def _kind_problems(self) -> list[str]:
        if self.kind not in get_args(TaskKind):
            return [f"--kind {self.kind}: not one of {', '.join(get_args(TaskKind))}"]
        problems = [
            f"--{role}-column is no column of a {self.kind} task, which has {', '.join(ROLES[self.kind])}"
            for role in get_args(Role)
            if role not in ROLES[self.kind] and self._column(role)
        ]
        if self.metric and self.metric not in METRICS[self.kind]:
            allowed = ", ".join(METRICS[self.kind])
            problems.append(f"--metric {self.metric} is not measured for {self.kind}: choose from {allowed}")
        return problems

    def _number_problems(self) -> list[str]:
        checks = [
            (0 < self.lr < math.inf, f"--lr {self.lr}: must be a number above 0"),
            (self.epochs >= 1, f"--epochs {self.epochs}: must be at least 1"),
            (self.patience >= 1, f"--patience {self.patience}: must be at least 1"),
            (self.batch_size >= 1, f"--batch-size {self.batch_size}: must be at least 1"),
            (self.accumulate >= 1, f"--accumulate {self.accumulate}: must be at least 1"),
            (
                self.save_steps is None or self.save_steps >= 1,
                f"--save-steps {self.save_steps}: must be at least 1",
            ),
            (self.max_length >= MIN_TOKENS, f"--max-length {self.max_length}: must be at least {MIN_TOKENS}"),
            (0 <= self.seed <= MAX_SEED, f"--seed {self.seed}: must be 0 to {MAX_SEED}"),
            (self.threads is None or self.threads >= 1, f"--threads {self.threads}: must be at least 1"),
            (
                0 < self.initial_sparsity < 1,
                f"--initial-sparsity {self.initial_sparsity}: must lie between 0 and 1, such as 0.05",
            ),
            (
                self.score_low < self.threshold,
                f"--score-low {self.score_low}: must be below --threshold {self.threshold}",
            ),
        ]
        problems = [message for good, message in checks if not good]
        try:
            parse_blocks(self.blocks)
        except ValueError as error:
            problems.append(str(error))
        return problems

    def _extra_problems(self) -> list[str]:
        """Mistakes in what goes beyond the paper's setting."""
        temperature, head_lr, sigmoid = self.temperature, self.head_lr, self.score_gradient == "sigmoid"
        shares = {"--average": self.average, "--final-sparsity": self.final_sparsity}
        checks = [
            *(
                (value is None or 0 < value < 1, f"{name} {value}: must lie between 0 and 1")
                for name, value in shares.items()
            ),
            (
                sigmoid or temperature is None,
                f"--temperature {temperature}: goes with --score-gradient sigmoid only",
            ),
            (
                not sigmoid or (temperature is not None and 0 < temperature < math.inf),
                f"--temperature {temperature}: --score-gradient sigmoid needs a number above 0, such as 0.1",
            ),
            (
                head_lr is None or self.head == "trained",
                f"--head-lr {head_lr}: a masked head does not learn; it goes with --head trained only",
            ),
            (head_lr is None or 0 < head_lr < math.inf, f"--head-lr {head_lr}: must be a number above 0"),
        ]
        return [message for good, message in checks if not good]

    def _choice_problems(self) -> list[str]:
        choices = {
            "precision": Precision,
            "score_init": ScoreInit,
            "score_gradient": ScoreGradient,
            "head": HeadMode,
        }
        return [
            f"--{name.replace('_', '-')} {getattr(self, name)}: not one of {', '.join(get_args(allowed))}"
            for name, allowed in choices.items()
            if getattr(self, name) not in get_args(allowed)
        ]


def parse_blocks(text: str, last: int | None = None) -> tuple[int, ...]:
    """Read a list of blocks such as ``2-``, ``2-11`` or ``0,3,8-11``.

    Args:
        text: blocks and ranges, both ends included, separated by commas; an open range runs to the last
            block.
        last: number of the base's last block; None to check the text alone (open ranges are then left out).

    Returns:
        The blocks, ascending, each once.

    Raises:
        ValueError: the text is no such list, or a range runs backwards; the message says what would be right.
    """
    blocks: set[int] = set()
    for part in text.split(","):
        match = _BLOCK_RANGE.fullmatch(part.strip())
        if not match:
            raise ValueError(f"--blocks {text}: {part!r} is no block or range; write 2-, 2-11 or 0,3,8-11")
        start, open_end, end = int(match[1]), match[2] == "-", match[3]
        stop = last if open_end else int(end or start)
        if stop is not None and stop < start:
            where = f"; the base's last block is {last}" if open_end else ""
            raise ValueError(f"--blocks {text}: the range {part.strip()!r} runs backwards{where}")
        blocks.update(range(start, (start if stop is None else stop) + 1))
    return tuple(sorted(blocks))
