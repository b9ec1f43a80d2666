"""Replies of the Open Inference Protocol and of Triton's extensions."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class OipError(BaseModel):
    """Body of every error of the protocol."""

    error: str = Field(description="what is wrong, for people")


def oip_errors(*statuses: int | str) -> dict[int | str, dict[str, type[BaseModel]]]:
    """OpenAPI responses: the statuses that answer with the protocol's error body."""
    return {status: {"model": OipError} for status in statuses}


class ServerMetadata(BaseModel):
    """Reply of GET /v2."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Reply of GET /v2/health/live."""

    live: bool


class ServerReady(BaseModel):
    """Reply of GET /v2/health/ready."""

    ready: bool
    error: str | None = Field(None, description="what is missing")


class TensorMetadata(BaseModel):
    """A tensor of a model; -1 is a dimension of any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The tensors of a task."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    """Reply of a model's `ready`."""

    name: str
    ready: bool


class TensorConfig(BaseModel):
    """A tensor in Triton's words; the first dimension is the batch."""

    name: str
    data_type: str
    dims: list[int]


class ParameterConfig(BaseModel):
    """A parameter in Triton's words."""

    string_value: str


class ModelConfig(BaseModel):
    """A task in the words of Triton's configuration."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[TensorConfig]
    output: list[TensorConfig]
    parameters: dict[str, ParameterConfig] = Field(description="kind, labels (a JSON list), max_length")


class DurationStatistics(BaseModel):
    """How often something happened, and the nanoseconds that it took altogether."""

    count: int
    ns: int


class StageStatistics(BaseModel):
    """Requests that succeeded and failed, and the stages of those that succeeded."""

    success: DurationStatistics
    fail: DurationStatistics
    queue: DurationStatistics
    compute_input: DurationStatistics = Field(description="tokenising")
    compute_infer: DurationStatistics


class ModelStatistics(BaseModel):
    """What a task was asked since its version was put in service."""

    name: str
    version: str
    last_inference: int = Field(description="milliseconds since 1970; 0 for never")
    inference_count: int = Field(description="inputs answered")
    inference_stats: StageStatistics


class AllStatistics(BaseModel):
    """Statistics of one model, or of all."""

    model_stats: list[ModelStatistics]


class IndexedModel(BaseModel):
    """A task in the words of the repository index."""

    name: str
    version: str = Field(description="the version that is served, or could not be loaded; empty if unknown")
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str = Field(description="why it is not served; empty if it is")


class Done(BaseModel):
    """Reply of load and unload: empty."""


class OutputTensorParameters(BaseModel):
    """Parameters of an output tensor."""

    binary_data_size: int | None = Field(None, description="bytes of its binary data")


class OutputTensor(BaseModel):
    """An output tensor."""

    name: str
    datatype: str
    shape: list[int]
    parameters: OutputTensorParameters | None = Field(None, description="only with a binary output")
    data: list[Any] | None = Field(None, description="the elements in row-major order; none if binary")


class InferResponse(BaseModel):
    """Reply to an inference request."""

    model_name: str
    model_version: str
    id: str | None = Field(None, description="that of the request")
    outputs: list[OutputTensor]
