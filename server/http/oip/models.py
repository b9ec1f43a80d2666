"""What a task looks like as a model of the Open Inference Protocol v2: its tensors, and what they mean.

    task                   inputs                                     outputs
    one text               text BYTES [-1]                            label BYTES [-1], scores FP32 [-1, n]
    pair of texts          text BYTES [-1], text_pair BYTES [-1]      the same
    multiple choice        context BYTES [-1], choices BYTES [-1, n]  the same; a label is a choice's index
    token classification   text BYTES [-1]                            label BYTES [-1], each one JSON

The input texts may also have the shape [-1, 1]. How tensors are coded is in `server.http.oip.tensors`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError
from pydantic_core import to_json

from masking import ClassPrediction, LoadedTask, TaskSpec
from server.errors import InvalidBodyError, invalid_body
from server.http.oip.tensors import Floats, InferRequest, OutputTensor, RequestedOutput, Texts, read_texts
from server.http.parsing import Request, read_request
from server.http.rendering import render, scores_of
from server.http.schemas import Choices, TeiBody

PLATFORM = "maskserve"
_ANY = -1
_FEWEST_CHOICES = 2


@dataclass(frozen=True)
class TensorInfo:
    """Name, datatype and shape of a model's tensor; -1 is a dimension of any size."""

    name: str
    datatype: Literal["BYTES", "FP32"]
    shape: tuple[int, ...]


def input_tensors(spec: TaskSpec) -> list[TensorInfo]:
    """The inputs of a task, all of which it needs."""
    if spec.kind == "multiple-choice":
        return [TensorInfo("context", "BYTES", (_ANY,)), TensorInfo("choices", "BYTES", (_ANY, _ANY))]
    names = ["text", "text_pair"] if spec.pair else ["text"]
    return [TensorInfo(name, "BYTES", (_ANY,)) for name in names]


def output_tensors(spec: TaskSpec) -> list[TensorInfo]:
    """The outputs of a task."""
    label = TensorInfo("label", "BYTES", (_ANY,))
    if spec.kind == "token-classification":
        return [label]
    return [label, TensorInfo("scores", "FP32", (_ANY, len(spec.labels) or _ANY))]


def metadata(name: str, version: str, spec: TaskSpec) -> dict[str, Any]:
    """The model's metadata."""
    return {
        "name": name,
        "versions": [version],
        "platform": PLATFORM,
        "inputs": [vars(tensor) for tensor in input_tensors(spec)],
        "outputs": [vars(tensor) for tensor in output_tensors(spec)],
    }


def configuration(name: str, spec: TaskSpec) -> dict[str, Any]:
    """The model's configuration in Triton's words; the first dimension of every tensor is the batch."""

    def described(tensors: Sequence[TensorInfo]) -> list[dict[str, Any]]:
        types = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
        return [
            {"name": tensor.name, "data_type": types[tensor.datatype], "dims": tensor.shape}
            for tensor in tensors
        ]

    values = {"kind": spec.kind, "labels": to_json(spec.labels).decode(), "max_length": str(spec.max_length)}
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": 0,
        "input": described(input_tensors(spec)),
        "output": described(output_tensors(spec)),
        "parameters": {key: {"string_value": value} for key, value in values.items()},
    }


def parse_infer(header: bytes) -> InferRequest:
    """The JSON of a request.

    Raises:
        MalformedBodyError: It is no JSON.
        InvalidBodyError: It is not the JSON of an inference request.
    """
    try:
        return InferRequest.model_validate_json(header)
    except ValidationError as error:
        raise invalid_body(error) from None


def read_infer(infer: InferRequest, binary: bytes, task: LoadedTask) -> Request:
    """The inputs of a task out of its tensors.

    Args:
        infer: The JSON of the request.
        binary: What follows the JSON in the body.
        task: The task.

    Raises:
        InvalidBodyError: The tensors are not those of the task, or not what they say.
        EmptyBatchError: They have no rows.
    """
    tensors = read_texts(infer.inputs, binary)
    expected = {tensor.name: tensor for tensor in input_tensors(task.spec)}
    if tensors.keys() != expected.keys():
        raise InvalidBodyError(
            f"task {task.manifest.task!r} takes the inputs {_listed(expected)}, not {_listed(tensors)}"
        )
    for name, info in expected.items():
        _check_shape(name, info, tensors[name])
    rows = {name: tensor.shape[0] for name, tensor in tensors.items()}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        raise InvalidBodyError(f"the inputs differ in rows: {counts}")
    parameters = infer.parameters
    body = TeiBody(inputs=_rows(tensors), truncate=parameters.truncate, raw_scores=parameters.raw_scores)
    return read_request(body, task)


def wanted_outputs(infer: InferRequest, spec: TaskSpec) -> dict[str, bool]:
    """The names of the outputs to reply with, in order, and whether each is to be binary.

    Raises:
        InvalidBodyError: An output is unknown, there twice, or wanted in a form that there is not.
    """
    known = [tensor.name for tensor in output_tensors(spec)]
    wanted: dict[str, bool] = {}
    for output in infer.outputs or [RequestedOutput(name=name) for name in known]:
        name, how = output.name, output.parameters
        if name not in known:
            raise InvalidBodyError(f"there is no output {name!r}; this task has {_listed(known)}")
        if name in wanted:
            raise InvalidBodyError(f"output {name!r} is wanted twice")
        if how.shared_memory_region is not None or how.classification:
            raise InvalidBodyError(
                f"output {name!r} is wanted in shared memory or as a classification; this server has neither"
            )
        default = infer.parameters.binary_data_output
        wanted[name] = default if how.binary_data is None else how.binary_data
    return wanted


def outputs_of(task: LoadedTask, request: Request, logits: Sequence[Floats]) -> dict[str, OutputTensor]:
    """Decode the logits of a request into the task's output tensors, by name.

    Args:
        task: The version that computed them.
        request: The inputs, as `read_infer` gives them.
        logits: float32 per input: [labels], [words, labels] or [choices].
    """
    if task.spec.kind == "token-classification":
        words = [to_json(entries).decode() for entries in render(task, request, logits)]
        return {"label": OutputTensor("label", words)}
    predictions = [task.codec.decode(values) for values in logits]
    found = [prediction for prediction in predictions if isinstance(prediction, ClassPrediction)]
    scores = np.stack([scores_of(prediction, request.reply.function) for prediction in found])
    labels = [prediction.label for prediction in found]
    return {"label": OutputTensor("label", labels), "scores": OutputTensor("scores", scores)}


def _check_shape(name: str, info: TensorInfo, given: Texts) -> None:
    if len(info.shape) == 1 and len(given.shape) > 1 and given.shape[1] != 1:
        raise InvalidBodyError(f"input {name!r} has shape {list(given.shape)}, not [-1] or [-1, 1]")
    if len(info.shape) > 1 and (len(given.shape) == 1 or given.shape[1] < _FEWEST_CHOICES):
        raise InvalidBodyError(
            f"input {name!r} has shape {list(given.shape)}, not [-1, n] with n choices, at least two"
        )


def _rows(tensors: dict[str, Texts]) -> list[list[str]] | list[Choices]:
    if "choices" not in tensors:
        columns = [tensors[name].elements for name in ("text", "text_pair") if name in tensors]
        return [list(row) for row in zip(*columns, strict=True)]
    contexts, choices = tensors["context"].elements, tensors["choices"]
    width = choices.shape[1]
    return [
        Choices(context=context, choices=list(choices.elements[row * width : (row + 1) * width]))
        for row, context in enumerate(contexts)
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
