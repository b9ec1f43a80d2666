"""Embedding routes: texts as vectors, and how similar they are, for clients of TEI and OpenAI."""

from base64 import b64encode
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from masking import TextInput
from server.http.auth import require_client
from server.http.body import read_json
from server.http.dependencies import TaskName, predictions_of
from server.http.kinds.embed_body import EmbedBody, SimilarityTexts, check_dimensions
from server.http.kinds.embedding import vectors
from server.http.kinds.kind import ReplyFormat
from server.http.middleware import context_of, service_of
from server.http.openapi import errors, example, json_body
from server.http.parsing import check_count, parse_own_body, to_request
from server.http.rendering import render
from server.http.routes.by_kind import take_task_of_kind
from server.http.schemas import ListOf, RequestBody, says

router = APIRouter(tags=["embed"], dependencies=[Depends(require_client)])

_ERRORS = errors(400, 401, 404, 408, 413, 415, 422, 424, 429, 503, 504)
_BYTES_OF_A_NUMBER = 24  # of JSON


class NamedBody(EmbedBody):
    """Body of text-embeddings-inference, whose task is named by a key."""

    model: str | None = Field(None, description="name of the task; not needed where only one can embed")


class TextsBody(NamedBody):
    """Body of its /embed."""

    inputs: Annotated[str | ListOf[str], says("a text or a list of texts")]


class ComparedBody(NamedBody):
    """Body of its /similarity."""

    inputs: Annotated[SimilarityTexts, says("{source_sentence, sentences}")]


class EmbeddingsBody(RequestBody):
    """Body of OpenAI's /v1/embeddings."""

    model: str = Field(description="name of the task")
    input: Annotated[str | ListOf[str], says("a text or a list of texts; ids of tokens are not supported")]
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="numbers, or their bytes as float32, little-endian (float)"
    )
    dimensions: int | None = Field(None, description="must be that of the encoder")
    user: str | None = Field(None, description="accepted")


class EmbeddingItem(BaseModel):
    """The embedding of a text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens that were computed."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(BaseModel):
    """Reply of OpenAI's /v1/embeddings."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage


_TEXTS = {"inputs": ["what is a panda?", "a panda is a bear"]}
_COMPARED = {"inputs": {"source_sentence": "what is a panda?", "sentences": ["a panda is a bear", "hi"]}}
_OPENAI = {"model": "semantic", "input": ["what is a panda?", "a panda is a bear"]}
_EMBED = {"requestBody": json_body(TextsBody, {"texts": example("two texts", _TEXTS)})}
_SIMILARITY = {"requestBody": json_body(ComparedBody, {"texts": example("two texts", _COMPARED)})}
_OPENAI_BODY = {"requestBody": json_body(EmbeddingsBody, {"texts": example("two texts", _OPENAI)})}
_VECTORS: dict[int | str, dict[str, Any]] = {200: {"model": list[list[float]]}}
_COSINES: dict[int | str, dict[str, Any]] = {200: {"model": list[float]}}


@router.post(
    "/embed",
    summary="Embed texts, as text-embeddings-inference",
    openapi_extra=_EMBED,
    responses={**_VECTORS, **_ERRORS},
)
async def embed(request: Request) -> Response:
    """Embed by the task that `model` names, or by the only one that can."""
    return await _answer(request, None, compared=False)


@router.post(
    "/predict/{task}/embed",
    summary="Embed texts with a task, as text-embeddings-inference",
    openapi_extra=_EMBED,
    responses={**_VECTORS, **_ERRORS},
)
async def embed_with_task(request: Request, task: TaskName) -> Response:
    """Embed by the task of the path, which makes /predict/{task} the address of one such server."""
    return await _answer(request, task, compared=False)


@router.post(
    "/similarity",
    summary="Compare texts, as text-embeddings-inference",
    openapi_extra=_SIMILARITY,
    responses={**_COSINES, **_ERRORS},
)
async def similarity(request: Request) -> Response:
    """Compare by the task that `model` names, or by the only one that can: the cosine to each sentence."""
    return await _answer(request, None, compared=True)


@router.post(
    "/predict/{task}/similarity",
    summary="Compare texts with a task, as text-embeddings-inference",
    openapi_extra=_SIMILARITY,
    responses={**_COSINES, **_ERRORS},
)
async def similarity_with_task(request: Request, task: TaskName) -> Response:
    """Compare by the task of the path."""
    return await _answer(request, task, compared=True)


@router.post(
    "/v1/embeddings",
    summary="Embed texts, as OpenAI",
    openapi_extra=_OPENAI_BODY,
    responses={200: {"model": EmbeddingsReply}, **_ERRORS},
)
async def embeddings(request: Request) -> Response:
    """Embed by the task that `model` names. What is too long is cut."""
    body = await read_json(request, EmbeddingsBody)
    served, limits = take_task_of_kind(request, body.model, "embedding", "embed"), service_of(request).limits
    check_dimensions(body.dimensions, served.loaded.spec)
    texts = [body.input] if isinstance(body.input, str) else body.input
    check_count("input", texts, limits.waiting)
    shape = ReplyFormat("tei", batched=True)
    inputs = [TextInput(text) for text in texts]
    wanted, reply = to_request(inputs, served.loaded, limits, truncate=True, reply=shape)
    predictions = await predictions_of(request, served, wanted)
    tokens = context_of(request).timings.tokens

    def content() -> bytes:
        found = vectors(predictions, reply).astype("<f4", copy=False)
        coded = [b64encode(one.tobytes()).decode() for one in found]
        shown = coded if body.encoding_format == "base64" else found.tolist()
        data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(shown)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return to_json({"object": "list", "data": data, "model": body.model, "usage": usage})

    size = len(texts) * served.loaded.spec.width * _BYTES_OF_A_NUMBER
    shown = await service_of(request).predictor.run_by_size(size, content)
    return Response(shown, media_type="application/json")


async def _answer(request: Request, task: str | None, *, compared: bool) -> Response:
    """Embed texts, or compare them."""
    form: type[NamedBody] = ComparedBody if compared else TextsBody
    body = await read_json(request, form)
    served = take_task_of_kind(request, task or body.model, "embedding", "embed")
    asked, reply = parse_own_body(body, served.loaded, service_of(request).limits)
    predictions = await predictions_of(request, served, asked)
    size = asked.rows * (1 if compared else served.loaded.spec.width) * _BYTES_OF_A_NUMBER
    content = await service_of(request).predictor.run_by_size(
        size, lambda: to_json(render(served.loaded, asked.inputs, predictions, reply))
    )
    return Response(content, media_type="application/json")
