"""Tensors over gRPC: from messages to the requests of the Open Inference Protocol, and back.

Texts come as `bytes_contents` of each input, or as `raw_input_contents` of them all, whose form is the binary
one of HTTP (`server.http.oip.tensors`). A reply has the form of its request.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from server.engine.batch import BatchLimits
from server.errors import InvalidBodyError
from server.http.error_mapping import invalid_body
from server.http.grpc.messages import message
from server.http.kinds.tensors import OutputTensor
from server.http.oip.models import check_size
from server.http.oip.tensors import InferRequest, to_binary

_TEXTS = "bytes_contents"


def read_request(request: Any, limits: BatchLimits) -> tuple[InferRequest, bytes]:
    """Read a ``ModelInferRequest``.

    Args:
        request: The message.
        limits: What can ever be admitted; a tensor of more is refused unread.

    Returns:
        The request as HTTP has it, and the data of its binary tensors.

    Raises:
        InvalidBodyError: It is not a request of the protocol, or its tensors are not texts.
    """
    for tensor in request.inputs:
        check_size(tensor.name, tensor.shape, limits)
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise InvalidBodyError(f"{len(request.inputs)} inputs have {len(raw)} raw_input_contents")
    body = {
        "id": request.id or None,
        "parameters": _values(request.parameters),
        "inputs": [
            _input(tensor, raw[place] if raw else None) for place, tensor in enumerate(request.inputs)
        ],
        "outputs": [
            {"name": output.name, "parameters": _values(output.parameters)} for output in request.outputs
        ],
    }
    try:
        return InferRequest.model_validate(body), b"".join(raw)
    except ValidationError as error:
        raise invalid_body(error) from None


def response(
    name: str, version: str, request_id: str | None, outputs: Sequence[OutputTensor], *, raw: bool
) -> Any:
    """Make a ``ModelInferResponse``.

    Args:
        name: The task.
        version: Its version.
        request_id: The id of the request.
        outputs: In the order that the client wants.
        raw: Whether their data are in `raw_output_contents`.
    """
    made = message("ModelInferResponse", model_name=name, model_version=version, id=request_id or "")
    for output in outputs:
        tensor = made.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if raw:
            made.raw_output_contents.append(to_binary(output))
        elif isinstance(output.values, np.ndarray):
            tensor.contents.fp32_contents.extend(output.values.ravel().tolist())
        else:
            tensor.contents.bytes_contents.extend(text.encode() for text in output.values)
    return made


def _input(tensor: Any, raw: bytes | None) -> dict[str, Any]:
    parameters = _values(tensor.parameters)
    content: dict[str, Any] = {}
    if raw is None:
        content["data"] = _texts(tensor)
    elif tensor.HasField("contents"):
        raise InvalidBodyError(f"input {tensor.name!r} has contents beside raw_input_contents")
    else:
        parameters["binary_data_size"] = len(raw)
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "parameters": parameters,
        **content,
    }


def _texts(tensor: Any) -> list[str]:
    others = [field.name for field, _ in tensor.contents.ListFields() if field.name != _TEXTS]
    if others:
        raise InvalidBodyError(f"input {tensor.name!r} has {', '.join(others)}; texts are {_TEXTS}")
    try:
        return [element.decode() for element in tensor.contents.bytes_contents]
    except UnicodeDecodeError:
        raise InvalidBodyError(f"an element of input {tensor.name!r} is not UTF-8") from None


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON has them; one without a value is left out."""
    chosen = {name: (one, one.WhichOneof("parameter_choice")) for name, one in parameters.items()}
    return {name: getattr(one, choice) for name, (one, choice) in chosen.items() if choice is not None}
