"""What a bundle says about itself: the manifest, its parts and its canonical JSON.

Validation is strict: no unknown fields, no coercion, no NaN, tuples and not lists. The fields and what they
mean are described in docs/bundle-format.md. Nothing here looks at mask bits or files.
"""

import json
import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from mask_store.errors import FormatVersionError, ManifestError

FORMAT_VERSION = 1
TASK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TASK_NAME_RULE = "1 to 64 of a-z 0-9 . _ - and the first a letter or digit"
MAX_RICE_PARAMETER = 30

TaskKind = Literal["sequence-classification", "token-classification", "multiple-choice"]
HeadMode = Literal["masked", "trained"]
JsonScalar = str | bool | int | float | None

_Count = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, lt=1)]
_Text = Annotated[str, Field(min_length=1)]
_TensorName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_TaskName = Annotated[str, Field(pattern=f"^{TASK_NAME.pattern}$")]
_UtcDatetime = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class BaseInfo(_Part):
    """The pretrained encoder that a mask belongs to.

    Attributes:
        name: Hub id or folder name, for people.
        revision: Hub revision, where known.
        architecture: The Hugging Face `model_type`, such as "bert".
        fingerprint: "sha256:" and 64 hex digits over the tensors that the mask applies to.
        parameters: Parameters of the encoder with its pretrained pooler; four times this are its fp32 bytes.
    """

    name: _Text
    revision: str | None
    architecture: _Text
    fingerprint: _Digest
    parameters: PositiveInt


class MaskingSettings(_Part):
    """How the mask was learned (paper section 3): score range, threshold, masked blocks.

    Attributes:
        blocks: Masked transformer blocks, counted from 0, ascending.
        threshold: tau of the binarizer: a bit is 1 where its score is at least this.
        score_low: Lower end of the uniform distribution that scores start from.
        score_high: Upper end of it.
        initial_sparsity: Share of zeros that this range gives before learning.
        head: "masked" (random, frozen, masked) or "trained" (learned, not masked).
    """

    blocks: tuple[_Count, ...]
    threshold: float
    score_low: float
    score_high: float
    initial_sparsity: _Share
    head: HeadMode

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"blocks must ascend without repeats, found {list(self.blocks)}")
        if not self.score_low < self.score_high:
            raise ValueError(f"score_low {self.score_low} must be below score_high {self.score_high}")
        return self


class BitsEncoding(_Part):
    """A mask tensor holds the packed bits as they are."""

    name: Literal["bits"] = "bits"


class RiceEncoding(_Part):
    """A mask tensor holds Golomb-Rice codes of the gaps between the rarer bits.

    Attributes:
        parameter: k; a gap is cut into its k low bits and the rest, which is written in unary.
        symbol: The bit whose places are coded.
        count: How many such bits there are.
    """

    name: Literal["rice"] = "rice"
    parameter: Annotated[int, Field(ge=0, le=MAX_RICE_PARAMETER)]
    symbol: Literal[0, 1]
    count: _Count


Encoding = BitsEncoding | RiceEncoding


class LayerInfo(_Part):
    """One masked layer.

    Attributes:
        name: Module name of the linear layer in the base, or of the classifier.
        rows: Output features, the first axis of the weight.
        columns: Input features, the second axis.
        zeros: Zero bits of the mask.
        initial_zeros: Zero bits before learning.
        flipped: Bits that differ from the mask before learning.
        encoding: How the file holds the mask.
    """

    name: _TensorName
    rows: PositiveInt
    columns: PositiveInt
    zeros: _Count
    initial_zeros: _Count
    flipped: _Count
    encoding: Annotated[Encoding, Field(discriminator="name")] = BitsEncoding()

    @property
    def bits(self) -> int:
        """Weights of the layer, and bits of its mask."""
        return self.rows * self.columns

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return self.zeros / self.bits

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed mask, each row padded to whole bytes."""
        return self.rows * -(-self.columns // 8)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in ("zeros", "initial_zeros", "flipped"):
            if getattr(self, field) > self.bits:
                raise ValueError(f"{field} {getattr(self, field)} of a layer of {self.bits} bits")
        if abs(self.zeros - self.initial_zeros) > self.flipped:
            raise ValueError(
                f"zeros went from {self.initial_zeros} to {self.zeros} with only {self.flipped} bits flipped"
            )
        if isinstance(self.encoding, RiceEncoding):
            symbol = 0 if self.zeros * 2 <= self.bits else 1
            count = min(self.zeros, self.bits - self.zeros)
            if (self.encoding.symbol, self.encoding.count) != (symbol, count):
                raise ValueError(f"rice encoding must code the {count} bits that are {symbol}")
        return self


class HeadTensorInfo(_Part):
    """One float32 tensor of the task's head, such as "classifier.weight"."""

    name: _TensorName
    shape: Annotated[tuple[PositiveInt, ...], Field(max_length=4)]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return 4 * math.prod(self.shape)


class Manifest(_Part):
    """Everything about a task except its bits and head values.

    Attributes:
        format_version: 1.
        task: Name of the task: 1 to 64 of a-z 0-9 . _ -, the first a letter or digit.
        kind: What the task predicts.
        pair: Whether inputs of a sequence classification are pairs of texts.
        labels: Label names by index; empty for multiple choice only.
        base: The encoder that the mask belongs to.
        max_length: Longest input in tokens.
        masking: How the mask was learned.
        seed: Seed of the run.
        layers: Masked layers, in the order of the model.
        head: Head tensors that travel with the mask.
        metric: Name of the metric that chose the checkpoint, a key of `metrics`.
        metrics: Dev metrics.
        training: Learning rate, epochs, batch size and so on.
        data_digest: Digest of the training data.
        libraries: Versions of the libraries that learned the mask.
        created: When the bundle was made, in UTC.
    """

    format_version: Literal[1] = 1
    task: _TaskName
    kind: TaskKind
    pair: bool
    labels: tuple[_Text, ...]
    base: BaseInfo
    max_length: PositiveInt
    masking: MaskingSettings
    seed: int
    layers: Annotated[tuple[LayerInfo, ...], Field(min_length=1)]
    head: tuple[HeadTensorInfo, ...]
    metric: str
    metrics: dict[str, float]
    training: dict[str, JsonScalar]
    data_digest: str
    libraries: dict[str, str]
    created: _UtcDatetime

    @property
    def mask_bits(self) -> int:
        """Weights that have a mask bit."""
        return sum(layer.bits for layer in self.layers)

    @property
    def mask_bytes(self) -> int:
        """Bytes of all packed masks in memory."""
        return sum(layer.packed_bytes for layer in self.layers)

    @property
    def head_bytes(self) -> int:
        """Bytes of all head tensors."""
        return sum(tensor.nbytes for tensor in self.head)

    @property
    def finetuned_bytes(self) -> int:
        """Bytes that a finetuned fp32 copy for this task would take (paper section 6.2, Table 8)."""
        return self.base.parameters * 4 + self.head_bytes

    @property
    def sparsity(self) -> float:
        """Share of zeros in all masks together."""
        return sum(layer.zeros for layer in self.layers) / self.mask_bits

    @property
    def initial_sparsity(self) -> float:
        """Share of zeros in all masks together before learning."""
        return sum(layer.initial_zeros for layer in self.layers) / self.mask_bits

    @property
    def flipped_share(self) -> float:
        """Share of bits that learning changed."""
        return sum(layer.flipped for layer in self.layers) / self.mask_bits

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in ("layers", "head"):
            _refuse_repeats(f"names in {field}", [part.name for part in getattr(self, field)])
        _refuse_repeats("labels", list(self.labels))
        if self.kind == "multiple-choice":
            if self.labels:
                raise ValueError("a multiple-choice task has no labels")
        elif len(self.labels) < 2:  # noqa: PLR2004
            raise ValueError(f"a {self.kind} task has at least 2 labels, found {len(self.labels)}")
        if self.pair and self.kind == "token-classification":
            raise ValueError("a token-classification task can't take pairs")
        if self.metric not in self.metrics:
            raise ValueError(f"metric {self.metric!r} is not among metrics {sorted(self.metrics)}")
        return self

    def to_json(self) -> str:
        """Canonical JSON: one manifest has one text, in ASCII."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Parse and validate a manifest.

        Raises:
            FormatVersionError: If the version is not 1.
            ManifestError: If anything else is wrong; the message lists every field.
        """
        try:
            fields = json.loads(text)
            version = fields["format_version"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise ManifestError("manifest: expected a JSON object with a format_version") from None
        if version != FORMAT_VERSION or type(version) is not int:
            raise FormatVersionError(f"format version: expected {FORMAT_VERSION}, found {version!r:.40}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ManifestError(f"manifest: {describe_problems(error)}") from None


def canonical_json(value: Any) -> str:
    """JSON in ASCII with sorted keys and no spaces; floats as the shortest text that reads back the same."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def describe_problems(error: ValidationError) -> str:
    """All problems of a validation on one line: "field: what is wrong; field: ..."."""
    problems = [
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}".removeprefix(": ")
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return "; ".join(problems)


def utc_now() -> datetime:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _refuse_repeats(what: str, names: list[str]) -> None:
    repeats = sorted({name for name in names if names.count(name) > 1})
    if repeats:
        raise ValueError(f"{what} repeat: {', '.join(repeats)}")
