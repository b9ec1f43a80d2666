"""Manifest: what the bundle of a task or of an ensemble says about itself, and its canonical JSON.

Three versions of the format exist side by side: version 1 is a task with one learned set of masks, version 2
an ensemble of several, version 3 a finetuned copy as signs. The fields and what they mean are described in
docs/bundle-format.md.
"""

import json
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from mask_store.errors import FormatVersionError, ManifestError
from mask_store.format.evaluation_info import EvaluationInfo
from mask_store.format.json_text import parse_json
from mask_store.format.limits import Limits
from mask_store.format.mask_info import (
    MAX_FIELDS,
    BitsInfo,
    ChangedRows,
    Described,
    Digest,
    HeadActivation,
    HeadTensorInfo,
    JsonScalar,
    LayerBits,
    LayerInfo,
    LearnedInfo,
    LearnedMasks,
    ManifestPart,
    PositiveInteger,
    Text,
    refuse_repeats,
)

MIN_MEMBERS = 2
MAX_MEMBERS = 64

TaskKind = Literal[
    "sequence-classification",
    "token-classification",
    "multiple-choice",
    "multi-label-classification",
    "regression",
    "reranking",
    "embedding",
]
Pooling = Literal["mean", "cls"]
CombineRule = Literal["labels", "logits", "probabilities"]
WordPiece = Literal["first", "last"]

_FEWEST_LABELS: Mapping[TaskKind, int] = {
    "sequence-classification": 2,
    "token-classification": 2,
    "multiple-choice": 0,
    "multi-label-classification": 1,
    "regression": 1,
    "reranking": 1,
    "embedding": 0,
}
_NO_MORE_LABELS: tuple[TaskKind, ...] = ("multiple-choice", "reranking", "embedding")
_ONE_TEXT: tuple[TaskKind, ...] = ("token-classification", "embedding")
WITHOUT_CLASSES: tuple[TaskKind, ...] = (
    "multi-label-classification",
    "regression",
    "reranking",
    "embedding",
)
"""Kinds whose scores are no probabilities of one class among others."""


_AT_WILL = ("thresholds", "pooling", "evaluation", "embeddings")
"""Fields that a manifest has where they say something."""


class BaseInfo(ManifestPart):
    """The pretrained encoder that a mask belongs to.

    Its identity is three digests, each "sha256:" and 64 hex digits; bundles of 0.1.0 have the first alone.

    Attributes:
        name: Hub id or folder name, for people.
        revision: Hub revision, where known.
        architecture: The Hugging Face `model_type`, such as "bert".
        fingerprint: Digest of the weights that the mask applies to.
        tokenizer: Digest of what the tokenizer makes of texts; None where it is not known.
        configuration: Digest of the settings that change the computation; None where it is not known.
        parameters: Parameters of the encoder with its pretrained pooler; four times this are its fp32 bytes.
    """

    name: Text
    revision: str | None
    architecture: Text
    fingerprint: Digest
    tokenizer: Digest | None = None
    configuration: Digest | None = None
    parameters: PositiveInteger

    @property
    def identity(self) -> Mapping[str, str]:
        """The digests that are known, by the part of the base that they are of."""
        parts = {
            "weights": self.fingerprint,
            "tokenizer": self.tokenizer,
            "configuration": self.configuration,
        }
        return {part: digest for part, digest in parts.items() if digest is not None}

    def differing(self, other: "BaseInfo") -> tuple[str, ...]:
        """Return the parts in which another base differs, of those that are known of both."""
        own, theirs = self.identity, other.identity
        return tuple(part for part in own if part in theirs and own[part] != theirs[part])

    @field_validator("tokenizer", "configuration")
    @classmethod
    def _is_there(cls, digest: str | None) -> str | None:
        if digest is None:
            raise ValueError("must be a digest where there is such a field")
        return digest

    @model_validator(mode="after")
    def _check_identity(self) -> Self:
        if (self.tokenizer is None) != (self.configuration is None):
            raise ValueError("tokenizer and configuration go together")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unknown(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unknown = [name for name in ("tokenizer", "configuration") if getattr(self, name) is None]
        return {name: value for name, value in serialize(self).items() if name not in unknown}


class Manifest(Described):
    """Everything about a task except its bits and values.

    It is a `TaskManifest`, an `EnsembleManifest` or a `SignManifest`.

    Attributes:
        kind: What the task predicts.
        pair: Whether inputs are pairs of texts.
        labels: Label names by index; of a regression the names of its values; empty for multiple choice and
            embeddings only.
        thresholds: Of a multi-label classification, the score from which on each label is given; None where
            that is 0.5 for all.
        pooling: What an embedding is made of: the mean of a text's tokens, or [CLS]; None for other kinds.
        base: The encoder that the masks belong to.
        max_length: Longest input in tokens.
        evaluation: How it answered its dev set, in short; None where it was not measured.
    """

    kind: TaskKind
    pair: bool
    labels: Annotated[tuple[Text, ...], FailFast()]
    thresholds: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None, FailFast()] = None
    pooling: Pooling | None = None
    base: BaseInfo
    max_length: PositiveInteger
    evaluation: EvaluationInfo | None = None

    @property
    @abstractmethod
    def learned(self) -> Mapping[str, BitsInfo]:
        """The learned sets of bits, in order, by what stands before the names of their tensors.

        One, under the empty text, for a task that is not an ensemble.
        """

    @abstractmethod
    def with_layers(self, layers: Sequence[tuple[LayerBits, ...]]) -> Self:
        """Return the same manifest with other layers, one tuple for each learned set of bits."""

    @property
    def finetuned_bytes(self) -> int:
        """Bytes that finetuned fp32 copies for this task would take (paper, Table 8 and appendix D.2).

        One copy, or one for each member of an ensemble.
        """
        return len(self.learned) * self.base.parameters * 4 + self.head_bytes

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        refuse_repeats("labels", list(self.labels))
        fewest, count = _FEWEST_LABELS[self.kind], len(self.labels)
        if count < fewest:
            raise ValueError(f"a task of {self.kind} has at least {fewest} labels, found {count}")
        if count > fewest and self.kind in _NO_MORE_LABELS:
            raise ValueError(f"a task of {self.kind} has {'one label' if fewest else 'no labels'}")
        if self.pair and self.kind in _ONE_TEXT:
            raise ValueError(f"a task of {self.kind} can't take pairs")
        if not self.pair and self.kind == "reranking":
            raise ValueError("a reranking task takes pairs: a query and a document")
        if (self.pooling is not None) != (self.kind == "embedding"):
            raise ValueError("an embedding task has a pooling, and others have none")
        if self.thresholds is not None:
            if self.kind != "multi-label-classification":
                raise ValueError(f"a task of {self.kind} has no thresholds")
            if len(self.thresholds) != count:
                raise ValueError(f"{len(self.thresholds)} thresholds for {count} labels")
        return self

    @model_validator(mode="after")
    def _check_evaluation(self) -> Self:
        if self.evaluation is not None:
            self.evaluation.check_labels(len(self.labels))
            if self.evaluation.metric not in self.metrics:
                raise ValueError(f"evaluation's metric {self.evaluation.metric!r} is not among metrics")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        absent = [name for name in _AT_WILL if not getattr(self, name, None)]
        if isinstance(self, LearnedInfo) and self.head_activation is None:
            absent.append("head_activation")
        return {name: value for name, value in serialize(self).items() if name not in absent}

    def to_json(self) -> str:
        """Write canonical JSON: one manifest has one text, in ASCII."""
        return canonical_json(self.model_dump(mode="json"))

    @staticmethod
    def from_json(text: str) -> "Manifest":
        """Read what `to_json` wrote of a manifest that was checked."""
        return _Document.model_validate_json(write_document("", text)).manifest


class TaskManifest(Manifest, LearnedInfo):
    """Manifest of a task with one learned set of masks.

    Attributes:
        format_version: 1.
    """

    format_version: Literal[1] = 1

    @property
    def learned(self) -> Mapping[str, LearnedInfo]:
        """See `Manifest.learned`."""
        return {"": self}

    def with_layers(self, layers: Sequence[tuple[LayerBits, ...]]) -> Self:
        """See `Manifest.with_layers`."""
        (own,) = layers
        return self.model_copy(update={"layers": own})

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        _check_activations(self.kind, [self.head_activation])
        return self


class MemberInfo(LearnedInfo):
    """One member of an ensemble: a learned set of masks, and the bundle that it was copied from.

    Attributes:
        task: The task that it was learned as.
        version: Number of the version that was published there; None where it was learned for the ensemble
            and never published alone.
        digest: Digest of the bundle.
    """

    version: PositiveInteger | None
    digest: Digest

    def __str__(self) -> str:
        """Say where it comes from, for messages."""
        return f"task {self.task!r} " + (f"version {self.version}" if self.version else f"seed {self.seed}")


class EnsembleManifest(Manifest, LearnedMasks):
    """Manifest of a task that is answered by several learned sets of masks together (paper section 5.3).

    Attributes:
        format_version: 2.
        combine: What the answer is made of: the vote of the members' labels, the mean of their logits, or
            the mean of their probabilities.
        members: The members, in the order of their tensors; no two copies of one bundle.
        metrics: Dev metrics of the members together; empty where they were not measured.
    """

    format_version: Literal[2] = 2
    combine: CombineRule
    members: Annotated[
        tuple[MemberInfo, ...], Field(min_length=MIN_MEMBERS, max_length=MAX_MEMBERS), FailFast()
    ]

    @property
    def learned(self) -> Mapping[str, LearnedInfo]:
        """See `Manifest.learned`."""
        return {f"{number:02d}.": member for number, member in enumerate(self.members)}

    def all_layers(self) -> Iterator[LayerInfo]:
        """See `Described.all_layers`."""
        return (layer for member in self.members for layer in member.layers)

    def all_head(self) -> Iterator[HeadTensorInfo]:
        """See `Described.all_head`."""
        return (tensor for member in self.members for tensor in member.head)

    def with_layers(self, layers: Sequence[tuple[LayerBits, ...]]) -> Self:
        """See `Manifest.with_layers`."""
        pairs = zip(self.members, layers, strict=True)
        members = tuple(member.model_copy(update={"layers": own}) for member, own in pairs)
        return self.model_copy(update={"members": members})

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        refuse_repeats("digests of members", [member.digest for member in self.members])
        if self.kind in WITHOUT_CLASSES and self.combine != "logits":
            raise ValueError(f"members of a task of {self.kind} are combined by their logits")
        _check_activations(self.kind, [member.head_activation for member in self.members])
        return self


class CopyInfo(ManifestPart):
    """The finetuned copy that signs were made of.

    Attributes:
        name: Hub id or folder name, for people.
        revision: Hub revision, where known.
        fingerprint: Digest of the copy's encoder, as a base's.
    """

    name: Text
    revision: str | None
    fingerprint: Digest


class SignManifest(Manifest, BitsInfo):
    """Manifest of a finetuned copy as one bit per weight: W + a (2b - 1), a a scale of each output row.

    Without layers it is a copy whose encoder is the base's own.

    Attributes:
        format_version: 3.
        own: Tensors of the base that the task has its own values of: biases and LayerNorms.
        embeddings: The base's embeddings of tokens and of token types, where the task has rows of its own.
        word_piece: Where a word's label is read, in token classification; else None.
        copied: The copy.
        settings: How the scales were chosen, and what was measured.
        libraries: Versions of the libraries that made the bundle.
    """

    format_version: Literal[3] = 3
    own: Annotated[tuple[HeadTensorInfo, ...], FailFast()]
    embeddings: Annotated[tuple[ChangedRows, ...], Field(max_length=2), FailFast()] = ()
    head_activation: HeadActivation | None
    word_piece: WordPiece | None
    copied: CopyInfo
    settings: Annotated[dict[str, JsonScalar], Field(max_length=MAX_FIELDS)]
    libraries: Annotated[dict[str, str], Field(max_length=MAX_FIELDS)]

    @property
    def learned(self) -> Mapping[str, BitsInfo]:
        """See `Manifest.learned`."""
        return {"": self}

    @property
    def scales(self) -> tuple[HeadTensorInfo, ...]:
        """The scales of each layer's rows, by the layer's name."""
        return tuple(HeadTensorInfo(name=layer.name, shape=(layer.rows,)) for layer in self.layers)

    @property
    def sign_bytes(self) -> int:
        """Bytes of scales, biases, LayerNorms and rows of embeddings."""
        numbers = sum(tensor.nbytes for tensor in (*self.own, *self.scales))
        return numbers + sum(rows.nbytes for rows in self.embeddings)

    def with_layers(self, layers: Sequence[tuple[LayerBits, ...]]) -> Self:
        """See `Manifest.with_layers`."""
        (own,) = layers
        return self.model_copy(update={"layers": own})

    @model_validator(mode="after")
    def _check_signs(self) -> Self:
        refuse_repeats("names in own", [tensor.name for tensor in self.own])
        bits = [part.name for part in (*self.layers, *self.embeddings)]
        refuse_repeats("names in layers and embeddings", bits)
        if (self.own or self.embeddings) and not self.layers:
            raise ValueError("without layers there are neither own tensors nor embeddings")
        _check_activations(self.kind, [self.head_activation])
        if self.head_activation is None and self.kind not in _ONE_TEXT:
            raise ValueError(f"a task has a head_activation, but for {' and '.join(_ONE_TEXT)}")
        if (self.kind == "token-classification") != (self.word_piece is not None):
            raise ValueError("a token-classification task has a word_piece, and others have none")
        return self


def _check_activations(kind: TaskKind, activations: Sequence[HeadActivation | None]) -> None:
    if kind == "embedding" and any(one is not None for one in activations):
        raise ValueError("an embedding task has no head_activation")


def _version_of(fields: Any) -> str | None:
    """Return the format version of a manifest's fields as the tag of its class."""
    version = fields.get("format_version") if isinstance(fields, dict) else None
    return str(version) if type(version) is int else None


class _Document(BaseModel):
    """The JSON document in a bundle's header: the manifest, and the checksum of it and the data section."""

    model_config = ConfigDict(strict=True, extra="forbid")

    checksum: str
    manifest: Annotated[
        Annotated[TaskManifest, Tag("1")]
        | Annotated[EnsembleManifest, Tag("2")]
        | Annotated[SignManifest, Tag("3")],
        Discriminator(_version_of),
    ]


def read_document(text: str, limits: Limits) -> tuple[str, Manifest]:
    """Parse and validate the document of a bundle's header.

    The text is parsed twice: once to hold it to the limits of JSON, which the validator does not know.

    Returns:
        The checksum and the manifest.

    Raises:
        BundleTooLargeError: If it has more values than the limits allow.
        FormatVersionError: If the manifest's version is not 1, 2 or 3.
        ManifestError: If anything else is wrong; the message lists the fields.
    """
    try:
        parse_json(text, limits, fields=MAX_FIELDS)
        document = _Document.model_validate_json(text)
    except ValidationError as error:
        raise _refusal(error) from None
    except UnicodeEncodeError:
        raise ManifestError("manifest: expected Unicode text, found half a surrogate") from None
    except ValueError as error:
        raise ManifestError(f"manifest: {error}") from None
    return document.checksum, document.manifest


def write_document(checksum: str, manifest: str) -> str:
    """Write the document of a bundle's header from the checksum and the manifest's canonical JSON."""
    return f'{{"checksum":"{checksum}","manifest":{manifest}}}'


def _refusal(error: ValidationError) -> FormatVersionError | ManifestError:
    for problem in error.errors(include_url=False, include_context=False):
        if problem["loc"] == ("manifest",) and problem["type"].startswith("union_tag"):
            found = problem["input"]
            version = found.get("format_version", math.nan) if isinstance(found, dict) else math.nan
            if isinstance(version, float) and math.isnan(version):
                return ManifestError("manifest: expected an object with a format_version")
            return FormatVersionError(f"format version: expected 1, 2 or 3, found {version!r:.40}")
    return ManifestError(f"manifest: {describe_problems(error, inside=2)}")


def canonical_json(value: Any) -> str:
    """Write JSON in ASCII, keys sorted, no spaces; floats as the shortest text that reads back the same."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def describe_problems(error: ValidationError, *, inside: int = 0) -> str:
    """Put all problems of a validation on one line: "field: what is wrong; field: ...".

    Args:
        error: The problems.
        inside: How many outer parts of a place to leave out, where it has so many.
    """
    problems = [
        f"{'.'.join(map(str, _inside(problem['loc'], inside)))}: {problem['msg']}".removeprefix(": ")
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return "; ".join(problems)


def _inside(place: tuple[int | str, ...], count: int) -> tuple[int | str, ...]:
    return place[count:] if len(place) >= count else place


def utc_now() -> datetime:
    """Return the time, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
