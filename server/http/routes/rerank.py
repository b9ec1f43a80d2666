"""Rerank routes: the documents of a query, best first, for clients of TEI, Cohere and Jina.

A document is a row of a task of the kind reranking; those of a query share batches. What is too long is cut,
unless the client asks for a refusal.
"""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, StrictBool, StrictInt

from masking import ScoresPrediction, TextInput
from server.errors import InvalidBodyError
from server.http.auth import require_client
from server.http.body import read_json
from server.http.dependencies import TaskName, predictions_of
from server.http.kinds.kind import ReplyFormat, scores_of
from server.http.middleware import context_of, service_of
from server.http.openapi import errors, example, json_body
from server.http.parsing import check_count, to_request
from server.http.routes.by_kind import take_task_of_kind
from server.http.schemas import ListOf, RequestBody

router = APIRouter(tags=["rerank"], dependencies=[Depends(require_client)])

_ERRORS = errors(400, 401, 404, 408, 413, 415, 422, 424, 429, 503, 504)


class RerankBody(RequestBody):
    """Body of text-embeddings-inference's /rerank."""

    query: str
    texts: ListOf[str] = Field(description="the documents")
    raw_scores: StrictBool | None = Field(None, description="logits instead of their sigmoid")
    return_text: StrictBool | None = Field(None, description="the documents in the reply, too")
    truncate: StrictBool | None = Field(
        None, description="cut what is too long, the longer of query and document first (true)"
    )
    truncation_direction: str | None = Field(None, description="accepted; texts are cut at their end")
    model: str | None = Field(None, description="name of the task; not needed where only one can rank")


class Rank(BaseModel):
    """A document's place in the request, and how relevant it is."""

    index: int
    score: float
    text: str | None = None


class RankedText(BaseModel):
    """A document, as an object."""

    text: str


class RerankModelBody(RequestBody):
    """Body of Cohere's and Jina's /rerank."""

    model: str = Field(description="name of the task")
    query: str
    documents: ListOf[str | dict[str, Any]] = Field(description='texts, or objects with one: {"text": ...}')
    top_n: Annotated[StrictInt, Field(ge=1)] | None = Field(None, description="the best n only")
    return_documents: StrictBool | None = Field(None, description="the documents in the reply, too")
    rank_fields: ListOf[str] | None = Field(
        None, description="keys of the objects that make a document's text, in order (text)"
    )
    truncation: StrictBool | None = Field(
        None, description="cut what is too long, the longer of query and document first (true)"
    )
    max_chunks_per_doc: StrictInt | None = Field(None, description="accepted; a document is one row")
    max_tokens_per_doc: StrictInt | None = Field(None, description="accepted; the task's length counts")
    priority: StrictInt | None = Field(None, description="accepted; tasks take fair turns")
    user: str | None = Field(None, description="accepted")


class RerankResult(BaseModel):
    """A document's place in the request, and how relevant it is, 0 to 1."""

    index: int
    relevance_score: float
    document: RankedText | None = None


class Usage(BaseModel):
    """Tokens that were computed."""

    prompt_tokens: int
    total_tokens: int


class RerankReply(BaseModel):
    """Reply of Cohere's and Jina's /rerank."""

    id: str
    model: str
    results: list[RerankResult]
    usage: Usage


_TEI_EXAMPLE = {"query": "what is a panda?", "texts": ["a panda is a bear", "hi"]}
_MODEL_EXAMPLE = {"model": "relevance", "query": "what is a panda?", "documents": ["a bear", "hi"]}
_TEI_BODY = {"requestBody": json_body(RerankBody, {"texts": example("two documents", _TEI_EXAMPLE)})}
_MODEL_BODY = {
    "requestBody": json_body(RerankModelBody, {"documents": example("two documents", _MODEL_EXAMPLE)})
}


@router.post(
    "/rerank",
    summary="Rank documents, as text-embeddings-inference",
    openapi_extra=_TEI_BODY,
    response_model_exclude_unset=True,
    responses=_ERRORS,
)
async def rerank(request: Request) -> list[Rank]:
    """Rank by the task that `model` names, or by the only one that can."""
    body = await read_json(request, RerankBody)
    return await _ranks(request, body, body.model)


@router.post(
    "/predict/{task}/rerank",
    summary="Rank documents with a task, as text-embeddings-inference",
    openapi_extra=_TEI_BODY,
    response_model_exclude_unset=True,
    responses=_ERRORS,
)
async def rerank_with_task(request: Request, task: TaskName) -> list[Rank]:
    """Rank by the task of the path, which makes /predict/{task} the address of one such server."""
    return await _ranks(request, await read_json(request, RerankBody), task)


@router.post(
    "/v1/rerank",
    summary="Rank documents, as Cohere and Jina",
    openapi_extra=_MODEL_BODY,
    response_model_exclude_unset=True,
    responses=_ERRORS,
)
@router.post(
    "/v2/rerank",
    summary="Rank documents, as Cohere's second version",
    openapi_extra=_MODEL_BODY,
    response_model_exclude_unset=True,
    responses=_ERRORS,
)
async def rerank_with_model(request: Request) -> RerankReply:
    """Rank by the task that `model` names."""
    body = await read_json(request, RerankModelBody)
    texts = [_text_of(document, body.rank_fields or ["text"]) for document in body.documents]
    cuts = body.truncation is not False
    scores = await _scores(request, body.model, body.query, texts, cuts=cuts, raw=False)
    results = [
        RerankResult(
            index=index,
            relevance_score=scores[index],
            **({"document": RankedText(text=texts[index])} if body.return_documents else {}),
        )
        for index in _best_first(scores)[: body.top_n]
    ]
    tokens = context_of(request).timings.tokens
    usage = Usage(prompt_tokens=tokens, total_tokens=tokens)
    return RerankReply(id=str(uuid4()), model=body.model, results=results, usage=usage)


async def _ranks(request: Request, body: RerankBody, task: str | None) -> list[Rank]:
    cuts = body.truncate is not False
    scores = await _scores(request, task, body.query, body.texts, cuts=cuts, raw=bool(body.raw_scores))
    return [
        Rank(index=index, score=scores[index], **({"text": body.texts[index]} if body.return_text else {}))
        for index in _best_first(scores)
    ]


async def _scores(
    request: Request, task: str | None, query: str, documents: Sequence[str], *, cuts: bool, raw: bool
) -> list[float]:
    """Compute the relevance of each document.

    Raises:
        TaskNotFoundError: There is no such task.
        InvalidBodyError: It is of another kind, or there are more documents than are ever admitted.
        EmptyBatchError: There are no documents.
    """
    served, limits = take_task_of_kind(request, task, "reranking", "rank"), service_of(request).limits
    check_count("documents", documents, limits.waiting)
    inputs = [TextInput(query, document) for document in documents]
    reply = ReplyFormat("tei", batched=True, function="none" if raw else None)
    wanted, _ = to_request(inputs, served.loaded, limits, truncate=cuts, reply=reply)
    predictions = await predictions_of(request, served, wanted)
    found = [one for one in predictions if isinstance(one, ScoresPrediction)]
    return [float(scores_of(one, reply.function)[0]) for one in found]


def _best_first(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def _text_of(document: str | dict[str, Any], fields: Sequence[str]) -> str:
    if isinstance(document, str):
        return document
    values = [document[name] for name in fields if isinstance(document.get(name), str)]
    if not values:
        raise InvalidBodyError(f"a document is a text, or an object with a text under {', '.join(fields)}")
    return "\n".join(values)
