"""Open Inference Protocol codec: tensors in JSON, and in the binary form of Triton's clients.

In the binary form the body is JSON followed by the data of the tensors, in order, without holes: an element
of BYTES is its length as a little-endian u32 and then its bytes, one of FP32 is 4 bytes, little-endian.
"""

import math
import re
import struct
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError, to_json

from server.errors import InvalidBodyError, cut
from server.http.kinds.tensors import OutputTensor, Texts

_LENGTH = struct.Struct("<I")
_NUMBER = re.compile(r"[0-9]{1,18}")
_MOST_DIMENSIONS = 2
_MOST_TENSORS, _MOST_OUTPUTS = 16, 1024
_Name = Annotated[str, StringConstraints(max_length=128)]
_Count = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
_ContentType = Annotated[
    str | None,
    AfterValidator(lambda given: _known_content_type(given, ("str", "base64"))),
    Field(description="str (the default), or base64: the elements are texts in base64"),
]
_TextType = Annotated[
    str | None,
    AfterValidator(lambda given: _known_content_type(given, ("str",))),
    Field(description="str, the default; others are refused"),
]


def _known_content_type(given: str | None, known: Sequence[str]) -> str | None:
    if given not in (None, *known):
        facts = {"given": cut(given), "known": ", ".join(known)}
        raise PydanticCustomError("content_type", "this server knows no {given}, only: {known}", facts)
    return given


def _nullable(schema: dict[str, Any]) -> None:
    """Let every key of a model's schema that may be missing be null too."""
    properties = schema["properties"]
    for name, one in properties.items():
        if name not in schema.get("required", ()) and {"type": "null"} not in one.get("anyOf", ()):
            properties[name] = {"anyOf": [one, {"type": "null"}]}


class _Wire(BaseModel):
    """Keys that the protocol does not name are ignored, as it asks; null is what some send for nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra=_nullable)

    @model_validator(mode="before")
    @classmethod
    def _null_is_nothing(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if value is not None}


class InputParameters(_Wire):
    """Parameters of an input tensor."""

    binary_data_size: _Count | None = Field(None, description="bytes of its binary data")
    content_type: _ContentType = None
    shared_memory_region: str | None = Field(None, description="refused: there is no shared memory")


class InputTensor(_Wire):
    """One input tensor; its elements are in `data`, or in the binary part of the body."""

    name: _Name
    shape: list[_Count] = Field(min_length=1, max_length=_MOST_DIMENSIONS)
    datatype: _Name
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(None, description="the elements, flat in row-major order or nested")


class OutputParameters(_Wire):
    """Parameters of a requested output."""

    binary_data: StrictBool | None = Field(None, description="in the binary part of the reply")
    content_type: _TextType = None
    classification: StrictInt | None = Field(None, description="refused: `label` and `scores` have it all")
    shared_memory_region: str | None = Field(None, description="refused: there is no shared memory")


class RequestedOutput(_Wire):
    """One output that the client wants."""

    name: _Name
    parameters: OutputParameters = OutputParameters()


class InferParameters(_Wire):
    """Parameters of a request."""

    truncate: StrictBool = Field(False, description="cut texts that are too long instead of refusing them")
    raw_scores: StrictBool = Field(False, description="logits instead of probabilities")
    binary_data_output: StrictBool = Field(
        False, description="outputs are binary where they do not say otherwise"
    )
    content_type: _TextType = None
    sequence_id: StrictInt | str = Field(0, description="refused unless 0 or empty: there are no sequences")

    @model_validator(mode="after")
    def _no_sequence(self) -> Self:
        if self.sequence_id not in (0, ""):
            raise PydanticCustomError("sequence", "this server has no sequences: leave out sequence_id")
        return self


class InferRequest(_Wire):
    """Body of a request, without its binary part."""

    id: str | None = Field(None, description="comes back in the reply")
    parameters: InferParameters = InferParameters()
    inputs: list[InputTensor] = Field(min_length=1, max_length=_MOST_TENSORS)
    outputs: list[RequestedOutput] = Field(
        [], max_length=_MOST_OUTPUTS, description="the outputs wanted; all of them by default"
    )


class _Binary:
    """The binary part of a body, taken from front to back."""

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    def take(self, size: int, name: str) -> memoryview:
        if size > len(self._left):
            raise InvalidBodyError(
                f"input {name!r} has binary_data_size {size}, but only {len(self._left)} bytes are left "
                "in the body"
            )
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def finish(self) -> None:
        if len(self._left):
            raise InvalidBodyError(f"{len(self._left)} bytes at the end of the body belong to no input")


def split_body(body: bytes, json_length: str | None) -> tuple[bytes, bytes]:
    """Split a body into its JSON and its binary part.

    Args:
        body: All of it.
        json_length: The header Inference-Header-Content-Length, if there is one.

    Raises:
        InvalidBodyError: The header is not a number of bytes that the body has.
    """
    if json_length is None:
        return body, b""
    if not _NUMBER.fullmatch(json_length) or int(json_length) > len(body):
        raise InvalidBodyError(
            f"the header Inference-Header-Content-Length is {json_length[:20]!r}; it has to be the bytes of "
            f"the JSON at the front of the body, which has {len(body)} bytes"
        )
    return body[: int(json_length)], body[int(json_length) :]


def read_texts(inputs: Sequence[InputTensor], binary: bytes) -> dict[str, Texts]:
    """Decode the input tensors, all of which have to be texts.

    Args:
        inputs: As they are in the JSON.
        binary: What follows the JSON.

    Returns:
        The tensors by name.

    Raises:
        InvalidBodyError: A tensor is not what it says: its datatype, its size, its elements; or the binary
            part has bytes that belong to no tensor.
    """
    rest, found = _Binary(binary), dict[str, Texts]()
    for tensor in inputs:
        if tensor.name in found:
            raise InvalidBodyError(f"input {tensor.name!r} is there twice")
        if tensor.datatype != "BYTES":
            raise InvalidBodyError(f"input {tensor.name!r} has datatype {tensor.datatype!r}, not 'BYTES'")
        found[tensor.name] = _read(tensor, rest)
    rest.finish()
    return found


def _read(tensor: InputTensor, rest: _Binary) -> Texts:
    name, size = tensor.name, tensor.parameters.binary_data_size
    if tensor.parameters.shared_memory_region is not None:
        raise InvalidBodyError(f"input {name!r} is in shared memory, which this server does not have")
    if (tensor.data is None) == (size is None):
        raise InvalidBodyError(f"input {name!r} needs either data or the parameter binary_data_size")
    elements = tuple(_flatten(tensor) if size is None else _elements(rest.take(size, name), name))
    if tensor.parameters.content_type == "base64":
        elements = tuple(_from_base64(element, name) for element in elements)
    wanted = math.prod(tensor.shape)
    if len(elements) != wanted:
        raise InvalidBodyError(
            f"input {name!r} has {len(elements)} elements, but its shape {tensor.shape} has {wanted}"
        )
    return Texts(tuple(tensor.shape), elements)


def _elements(content: memoryview, name: str) -> Iterator[str]:
    """Yield the texts of a binary tensor."""
    start = 0
    while start < len(content):
        begin = start + _LENGTH.size
        if begin > len(content):
            raise InvalidBodyError(f"input {name!r} ends within the length of an element")
        end = begin + _LENGTH.unpack_from(content, start)[0]
        if end > len(content):
            raise InvalidBodyError(
                f"an element of input {name!r} has {end - begin} bytes, but only {len(content) - begin} are "
                "left in the tensor"
            )
        try:
            yield str(content[begin:end], "utf-8")
        except UnicodeDecodeError:
            raise InvalidBodyError(f"an element of input {name!r} is not UTF-8") from None
        start = end


def _from_base64(element: str, name: str) -> str:
    try:
        return b64decode(element, validate=True).decode()
    except ValueError:
        raise InvalidBodyError(
            f"input {name!r} has content_type base64, but {cut(element)} is not a text (UTF-8) in base64"
        ) from None


def _flatten(tensor: InputTensor) -> Iterator[str]:
    """Yield the texts of a tensor in JSON, which may be nested as its shape is."""
    assert tensor.data is not None
    rows = [tensor.data]
    if len(tensor.shape) == _MOST_DIMENSIONS and any(isinstance(row, list) for row in tensor.data):
        rows = tensor.data
        if any(not isinstance(row, list) or len(row) != tensor.shape[1] for row in rows):
            raise InvalidBodyError(f"input {tensor.name!r} is not nested as its shape {tensor.shape} says")
    for element in (element for row in rows for element in row):
        if not isinstance(element, str):
            raise InvalidBodyError(f"an element of input {tensor.name!r} is not a text")
        yield element


@dataclass(frozen=True)
class InferReply:
    """The body of a reply.

    Attributes:
        content: All of it.
        json_length: Bytes of its JSON if a binary part follows, for Inference-Header-Content-Length.
    """

    content: bytes
    json_length: int | None

    @classmethod
    def of(
        cls,
        model: tuple[str, str],
        request_id: str | None,
        outputs: Sequence[OutputTensor],
        is_binary: Mapping[str, bool],
    ) -> Self:
        """Put a reply together.

        Args:
            model: Name and version of what answers.
            request_id: What the client called its request; None for nothing.
            outputs: The outputs in order.
            is_binary: By name, whether an output goes into the binary part.
        """
        head = {"model_name": model[0], "model_version": model[1]}
        if request_id is not None:
            head["id"] = request_id
        described, parts = [], []
        for output in outputs:
            entry = {"name": output.name, "datatype": output.datatype, "shape": output.shape}
            if is_binary[output.name]:
                parts.append(to_binary(output))
                described.append({**entry, "parameters": {"binary_data_size": len(parts[-1])}})
            else:
                described.append({**entry, "data": _to_list(output)})
        header = to_json({**head, "outputs": described})
        return cls(b"".join([header, *parts]), len(header) if parts else None)


def to_binary(tensor: OutputTensor) -> bytes:
    """Return the elements of an output in the binary form."""
    if isinstance(tensor.values, np.ndarray):
        return tensor.values.astype("<f4").tobytes()
    encoded = [text.encode() for text in tensor.values]
    return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))


def _to_list(tensor: OutputTensor) -> list[Any]:
    """Return the elements of an output in row-major order, for JSON."""
    return tensor.values.ravel().tolist() if isinstance(tensor.values, np.ndarray) else list(tensor.values)
