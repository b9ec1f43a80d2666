"""Open Inference Protocol v2 models: a task's metadata, and its requests and replies as tensors.

    task                   inputs                                     outputs
    one text               text BYTES [-1]                            label BYTES [-1], scores FP32 [-1, n]
    pair of texts          text BYTES [-1], text_pair BYTES [-1]      the same
    multiple choice        context BYTES [-1], choices BYTES [-1, n]  the same; a label is a choice's index
    several labels         as one text, or a pair                     the same; a label is a JSON list
    regression, reranking  as one text, or a pair                     scores FP32 [-1, n]
    embedding              text BYTES [-1]                            embedding FP32 [-1, n]
    token classification   text BYTES [-1]                            label BYTES [-1], each one JSON

The input texts may also have the shape [-1, 1]. How tensors are coded is in `server.http.oip.tensors`, which
tensors a kind of task has is in `server.http.kinds`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import to_json

from masking import KnownTask, Prediction, TaskSpec
from server.engine.batch import BatchLimits
from server.errors import InvalidBodyError, cut, quoted
from server.http.error_mapping import invalid_body
from server.http.kinds import http_kind
from server.http.kinds.kind import ReplyFormat
from server.http.kinds.tensors import OutputTensor, TensorInfo, Texts
from server.http.oip.replies import (
    ModelConfig,
    ModelMetadata,
    ParameterConfig,
    TensorConfig,
    TensorMetadata,
)
from server.http.oip.tensors import InferRequest, RequestedOutput, read_texts
from server.http.parsing import to_request
from server.predictor import PredictRequest

PLATFORM = "maskserve"
_FEWEST_CHOICES = 2


def metadata(name: str, versions: Sequence[str], spec: TaskSpec) -> ModelMetadata:
    """Return the model's metadata."""
    kind = http_kind(spec)
    return described_model(name, versions, kind.input_tensors, kind.output_tensors)


def described_model(
    name: str, versions: Sequence[str], inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> ModelMetadata:
    """Return the metadata of a model with these tensors."""

    def described(tensors: Sequence[TensorInfo]) -> list[TensorMetadata]:
        return [
            TensorMetadata(name=one.name, datatype=one.datatype, shape=list(one.shape)) for one in tensors
        ]

    return ModelMetadata(
        name=name,
        versions=list(versions),
        platform=PLATFORM,
        inputs=described(inputs),
        outputs=described(outputs),
    )


def configuration(name: str, spec: TaskSpec) -> ModelConfig:
    """Return the configuration in Triton's words; the first dimension of every tensor is the batch."""

    def described(tensors: Sequence[TensorInfo]) -> list[TensorConfig]:
        types = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
        return [
            TensorConfig(name=one.name, data_type=types[one.datatype], dims=list(one.shape))
            for one in tensors
        ]

    kind = http_kind(spec)
    values = {"kind": spec.kind, "labels": to_json(spec.labels).decode(), "max_length": str(spec.max_length)}
    return ModelConfig(
        name=name,
        platform=PLATFORM,
        backend=PLATFORM,
        max_batch_size=0,
        input=described(kind.input_tensors),
        output=described(kind.output_tensors),
        parameters={key: ParameterConfig(string_value=value) for key, value in values.items()},
    )


def parse_infer(header: bytes) -> InferRequest:
    """Parse the JSON of a request.

    Raises:
        MalformedBodyError: It is not JSON.
        InvalidBodyError: It is not the JSON of an inference request.
    """
    try:
        return InferRequest.model_validate_json(header)
    except ValidationError as error:
        raise invalid_body(error) from None


def read_tensors(infer: InferRequest, binary: bytes, limits: BatchLimits) -> dict[str, Texts]:
    """Read the input tensors of a request.

    Args:
        infer: The JSON of the request.
        binary: What follows the JSON in the body.
        limits: What can ever be admitted; a tensor of more is refused unread.

    Returns:
        The tensors by name.

    Raises:
        InvalidBodyError: The tensors are not what they say.
    """
    for tensor in infer.inputs:
        check_size(tensor.name, tensor.shape, limits)
    return read_texts(infer.inputs, binary)


def to_inputs(
    infer: InferRequest, tensors: Mapping[str, Texts], task: KnownTask, limits: BatchLimits
) -> tuple[PredictRequest, ReplyFormat]:
    """Read the inputs of a task from tensors.

    Args:
        infer: The JSON of the request.
        tensors: Its input tensors.
        task: The task.
        limits: What can ever be admitted.

    Returns:
        What is to be predicted, and how the reply is to look.

    Raises:
        InvalidBodyError: The tensors are not those of the task.
        EmptyBatchError: They have no rows.
    """
    kind = http_kind(task.spec)
    expected = {tensor.name: tensor for tensor in kind.input_tensors}
    if tensors.keys() != expected.keys():
        raise InvalidBodyError(
            f"task {task.name!r} takes the inputs {_listed(expected)}, not {quoted(tensors)}"
        )
    for name, info in expected.items():
        _check_shape(name, info, tensors[name])
    rows = {name: tensor.shape[0] for name, tensor in tensors.items()}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        raise InvalidBodyError(f"the inputs differ in rows: {counts}")
    reply = ReplyFormat("tei", batched=True, function="none" if infer.parameters.raw_scores else None)
    cuts = infer.parameters.truncate
    return to_request(kind.inputs_of(tensors), task, limits, truncate=cuts, reply=reply)


@dataclass(frozen=True)
class InferCall:
    """A request to a task that was understood.

    Attributes:
        id: Its id.
        wanted: What is to be predicted.
        reply: How the reply is to look.
        outputs: Names of the outputs, in order, and whether each is to be binary.
    """

    id: str | None
    wanted: PredictRequest
    reply: ReplyFormat
    outputs: Mapping[str, bool]

    def tensors(self, task: KnownTask, predictions: Sequence[Prediction]) -> list[OutputTensor]:
        """Return the outputs of the task that are wanted, in order."""
        made = http_kind(task.spec).outputs_of(self.wanted.inputs, predictions, self.reply)
        return [made[name] for name in self.outputs]


def read_call(infer: InferRequest, binary: bytes, task: KnownTask, limits: BatchLimits) -> InferCall:
    """Understand a request to a task.

    Args:
        infer: The JSON of the request.
        binary: What follows the JSON in the body.
        task: The task.
        limits: What can ever be admitted.

    Raises:
        InvalidBodyError, EmptyBatchError: As `wanted_outputs`, `read_tensors` and `to_inputs`.
    """
    outputs = wanted_outputs(infer, [tensor.name for tensor in http_kind(task.spec).output_tensors])
    wanted, reply = to_inputs(infer, read_tensors(infer, binary, limits), task, limits)
    return InferCall(infer.id, wanted, reply, outputs)


def wanted_outputs(infer: InferRequest, known: Sequence[str]) -> dict[str, bool]:
    """Return the names of the outputs to reply with, in order, and whether each is to be binary.

    Args:
        infer: The JSON of the request.
        known: Names of the model's outputs.

    Raises:
        InvalidBodyError: An output is unknown, there twice, or wanted in a form that there is not.
    """
    wanted: dict[str, bool] = {}
    for output in infer.outputs or [RequestedOutput(name=name) for name in known]:
        name, how = output.name, output.parameters
        if name not in known:
            raise InvalidBodyError(f"there is no output {cut(name)}; there are {_listed(known)}")
        if name in wanted:
            raise InvalidBodyError(f"output {name!r} is wanted twice")
        if how.shared_memory_region is not None or how.classification:
            raise InvalidBodyError(
                f"output {name!r} is wanted in shared memory or as a classification; this server has neither"
            )
        default = infer.parameters.binary_data_output
        wanted[name] = default if how.binary_data is None else how.binary_data
    return wanted


def check_size(name: str, shape: Sequence[int], limits: BatchLimits) -> None:
    """Refuse a tensor of more rows or choices than can ever be admitted.

    Raises:
        InvalidBodyError: It has more.
    """
    most = (limits.waiting, limits.rows)
    if any(size > limit for size, limit in zip(shape, most, strict=False)):
        raise InvalidBodyError(
            f"input {name!r} has shape {list(shape)}; at most {most[0]} rows are read, and {most[1]} choices "
            "of each"
        )


def _check_shape(name: str, info: TensorInfo, given: Texts) -> None:
    if len(info.shape) == 1 and len(given.shape) > 1 and given.shape[1] != 1:
        raise InvalidBodyError(f"input {name!r} has shape {list(given.shape)}, not [-1] or [-1, 1]")
    if len(info.shape) > 1 and (len(given.shape) == 1 or given.shape[1] < _FEWEST_CHOICES):
        raise InvalidBodyError(
            f"input {name!r} has shape {list(given.shape)}, not [-1, n] with n choices, at least two"
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
