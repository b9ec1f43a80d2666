"""Mask info: what a manifest says about one set of bits, how it came about, its layers and its head.

A task's manifest has one such part, an ensemble's has one for each member. Validation is strict: no unknown
fields, no coercion, no NaN, tuples and not lists. A sequence is read up to its first fault and an object has
at most `MAX_FIELDS` fields, so no manifest has more than some hundred faults to list.
"""

import math
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

TASK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TASK_NAME_RULE = "1 to 64 of a-z 0-9 . _ - and the first a letter or digit"
MAX_RICE_PARAMETER = 30
MAX_FIELDS = 256
_LARGEST_INTEGER = (1 << 63) - 1
_LARGEST_SIZE = 1 << 40


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time whose year is 1 to 9999 in UTC") from None


HeadMode = Literal["masked", "trained"]
HeadActivation = Literal["tanh", "relu", "gelu", "gelu-norm"]
PositiveInteger = Annotated[int, Field(gt=0, le=_LARGEST_INTEGER)]
JsonScalar = str | bool | int | float | None
Text = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]

Count = Annotated[int, Field(ge=0, le=_LARGEST_INTEGER)]
_Size = Annotated[int, Field(gt=0, le=_LARGEST_SIZE)]
_Share = Annotated[float, Field(ge=0, lt=1)]
_TensorName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
_TaskName = Annotated[str, Field(pattern=f"^{TASK_NAME.pattern}$")]
_UtcDatetime = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class ManifestPart(BaseModel):
    """Base of all parts of a manifest: immutable, strict, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class MaskingInfo(ManifestPart):
    """How the mask was learned (paper, section 3.2): score range, threshold, masked blocks.

    Attributes:
        blocks: Masked transformer blocks, counted from 0, ascending.
        threshold: tau of the binarizer: a bit is 1 where its score is at least this.
        score_low: Lower end of the uniform distribution that scores start from.
        score_high: Upper end of it.
        initial_sparsity: Share of zeros that this range gives before learning.
        head: "masked" (random, frozen, masked) or "trained" (learned, not masked).
    """

    blocks: Annotated[tuple[Count, ...], FailFast()]
    threshold: float
    score_low: float
    score_high: float
    initial_sparsity: _Share
    head: HeadMode

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"blocks must ascend without repeats, found {list(self.blocks[:20])}")
        if not self.score_low < self.score_high:
            raise ValueError(f"score_low {self.score_low} must be below score_high {self.score_high}")
        return self


class BitsEncoding(ManifestPart):
    """A mask tensor holds the packed bits as they are."""

    name: Literal["bits"] = "bits"


class RiceEncoding(ManifestPart):
    """A mask tensor holds Golomb-Rice codes of the gaps between the rarer bits.

    Attributes:
        parameter: k; a gap is cut into its k low bits and the rest, which is written in unary.
        symbol: The bit whose places are coded.
        count: How many such bits there are.
    """

    name: Literal["rice"] = "rice"
    parameter: Annotated[int, Field(ge=0, le=MAX_RICE_PARAMETER)]
    symbol: Literal[0, 1]
    count: Count


Encoding = BitsEncoding | RiceEncoding


class LayerBits(ManifestPart):
    """The bits of one layer.

    Attributes:
        name: Module name of the linear layer in the base, or of the classifier.
        rows: Output features, the first axis of the weight.
        columns: Input features, the second axis.
        zeros: Zero bits.
        encoding: How the file holds the bits.
    """

    name: _TensorName
    rows: _Size
    columns: _Size
    zeros: Count
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
    def _check_bits(self) -> Self:
        if self.zeros > self.bits:
            raise ValueError(f"zeros {self.zeros} of a layer of {self.bits} bits")
        if isinstance(self.encoding, RiceEncoding):
            symbol = 0 if self.zeros * 2 <= self.bits else 1
            count = min(self.zeros, self.bits - self.zeros)
            if (self.encoding.symbol, self.encoding.count) != (symbol, count):
                raise ValueError(f"rice encoding must code the {count} bits that are {symbol}")
        return self


class ChangedRows(LayerBits):
    """The rows of an embedding that a task has its own values of: 1 row of bits, a 1 for each of them.

    Attributes:
        width: Numbers of a row of the embedding; its rows are the columns of the bits.
    """

    width: _Size

    @property
    def values(self) -> "HeadTensorInfo":
        """The values, a row for each 1."""
        return HeadTensorInfo(name=self.name, shape=(self.columns - self.zeros, self.width))

    @property
    def nbytes(self) -> int:
        """Bytes of values and bits."""
        return self.values.nbytes + self.packed_bytes

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        if self.rows != 1:
            raise ValueError(f"changed rows are one row of bits, found {self.rows}")
        if self.zeros == self.columns:
            raise ValueError("none of the rows is changed")
        return self


class LayerInfo(LayerBits):
    """One masked layer.

    Attributes:
        initial_zeros: Zero bits before learning.
        flipped: Bits that differ from the mask before learning.
    """

    initial_zeros: Count
    flipped: Count

    @model_validator(mode="after")
    def _check_learning(self) -> Self:
        for field in ("initial_zeros", "flipped"):
            if getattr(self, field) > self.bits:
                raise ValueError(f"{field} {getattr(self, field)} of a layer of {self.bits} bits")
        if abs(self.zeros - self.initial_zeros) > self.flipped:
            raise ValueError(
                f"zeros went from {self.initial_zeros} to {self.zeros} with only {self.flipped} bits flipped"
            )
        return self


class HeadTensorInfo(ManifestPart):
    """One float32 tensor that travels with the bits, such as "classifier.weight"."""

    name: _TensorName
    shape: Annotated[tuple[_Size, ...], Field(max_length=4), FailFast()]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return 4 * math.prod(self.shape)


class Described(ManifestPart):
    """Common part of a manifest and of a member of an ensemble.

    Attributes:
        task: Name of the task: 1 to 64 of a-z 0-9 . _ -, the first a letter or digit.
        metrics: Dev metrics.
        created: When the bundle was made, in UTC.
    """

    task: _TaskName
    metrics: Annotated[dict[str, float], Field(max_length=MAX_FIELDS)]
    created: _UtcDatetime

    @abstractmethod
    def all_layers(self) -> Iterable[LayerBits]:
        """Every layer with bits that is described here."""

    @abstractmethod
    def all_head(self) -> Iterable[HeadTensorInfo]:
        """Every head tensor that is described here."""

    @property
    def mask_bits(self) -> int:
        """Weights that have a mask bit; a weight that several members mask counts for each."""
        return sum(layer.bits for layer in self.all_layers())

    @property
    def mask_bytes(self) -> int:
        """Bytes of all packed masks in memory."""
        return sum(layer.packed_bytes for layer in self.all_layers())

    @property
    def head_bytes(self) -> int:
        """Bytes of all head tensors."""
        return sum(tensor.nbytes for tensor in self.all_head())

    @property
    def sparsity(self) -> float:
        """Share of zeros in all masks together; 0 where there are none."""
        return sum(layer.zeros for layer in self.all_layers()) / max(1, self.mask_bits)


class LearnedMasks(Described):
    """Common part of what describes masks that were learned: a task's manifest, a member, an ensemble."""

    @abstractmethod
    def all_layers(self) -> Iterable[LayerInfo]:
        """Every masked layer that is described here."""

    @property
    def initial_sparsity(self) -> float:
        """Share of zeros in all masks together before learning."""
        return sum(layer.initial_zeros for layer in self.all_layers()) / self.mask_bits

    @property
    def flipped_share(self) -> float:
        """Share of bits that learning changed."""
        return sum(layer.flipped for layer in self.all_layers()) / self.mask_bits


class BitsInfo(Described):
    """One set of bits, with its head.

    Attributes:
        layers: Layers with bits, in the order of the model.
        head: Head tensors that travel with the bits.
        head_activation: Between W_P and W_T; None where there is no W_P, and of learned masks also for tanh.
            In token classification a W_P is computed on each token.
    """

    layers: Annotated[tuple[LayerBits, ...], FailFast()]
    head: Annotated[tuple[HeadTensorInfo, ...], FailFast()]
    head_activation: HeadActivation | None = None

    def all_layers(self) -> tuple[LayerBits, ...]:
        """See `Described.all_layers`."""
        return self.layers

    def all_head(self) -> tuple[HeadTensorInfo, ...]:
        """See `Described.all_head`."""
        return self.head

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for field in ("layers", "head"):
            refuse_repeats(f"names in {field}", [part.name for part in getattr(self, field)])
        return self


class LearnedInfo(BitsInfo, LearnedMasks):
    """One learned set of masks, with its head.

    Attributes:
        masking: How the mask was learned.
        seed: Seed of the run.
        metric: Name of the metric that chose the checkpoint, a key of `metrics`.
        training: Learning rate, epochs, batch size and so on.
        data_digest: Digest of the training data.
        libraries: Versions of the libraries that learned the mask.
    """

    masking: MaskingInfo
    seed: Annotated[int, Field(ge=-_LARGEST_INTEGER, le=_LARGEST_INTEGER)]
    layers: Annotated[tuple[LayerInfo, ...], Field(min_length=1), FailFast()]
    metric: str
    training: Annotated[dict[str, JsonScalar], Field(max_length=MAX_FIELDS)]
    data_digest: str
    libraries: Annotated[dict[str, str], Field(max_length=MAX_FIELDS)]

    def all_layers(self) -> tuple[LayerInfo, ...]:
        """See `Described.all_layers`."""
        return self.layers

    @model_validator(mode="after")
    def _check_learned(self) -> Self:
        if self.metric not in self.metrics:
            raise ValueError(f"metric {self.metric!r} is not among metrics {sorted(self.metrics)}")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_none(serialize(self), ("head_activation",))


def without_none(fields: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Leave out those of some fields that say nothing."""
    return {name: value for name, value in fields.items() if value is not None or name not in names}


def refuse_repeats(what: str, names: list[str]) -> None:
    """Refuse names that occur twice.

    Raises:
        ValueError: Names them.
    """
    if repeats := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"{what} repeat: {', '.join(repeats)}")
