"""OpenAPI entries of errors and of the bodies that routes read by themselves, with examples that work."""

import json
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, TypeAdapter
from starlette.routing import compile_path

from mask_store import TaskKind
from masking import TaskSpec
from server.http.auth import CLIENT_KEY
from server.http.body import NDJSON
from server.http.kinds import HttpKind, http_kind
from server.http.kinds.embed_body import EmbedBody
from server.http.kinds.replies import PredictReply
from server.http.schemas import FanOutBody, PredictBody, PredictManyBody
from server.settings import Settings

_COMPONENTS: dict[str, Any] = {}


class ErrorReply(BaseModel):
    """Body of every error."""

    error: str = Field(description="what is wrong, for people")
    error_type: str = Field(description="what is wrong, for programs")


class RowPrediction(BaseModel):
    """The answer to a row of POST /predict, or of one of its tasks."""

    task: str
    version: int
    digest: str
    predictions: PredictReply


class RowError(ErrorReply):
    """Why a row of POST /predict has no answer, or why one of its tasks has none."""

    task: str | None = Field(description="the task that the row names, if it names one")


def errors(*statuses: int) -> dict[int | str, dict[str, type[BaseModel]]]:
    """Return OpenAPI responses: the statuses that answer with an error body."""
    return {status: {"model": ErrorReply} for status in statuses}


def operation_id(route: APIRoute) -> str:
    """Return a route's name in generated clients: that of its function, told apart by the path."""
    words = {"{version}": "_version", "/hf/": "_for_hugging_face", "/v2/rerank": "_version_2"}
    told_apart = (end for part, end in words.items() if part in route.path and end not in route.name)
    return "".join([route.name, *told_apart])


def complete_document(app: FastAPI, settings: Settings) -> None:
    """Add to the OpenAPI document what this module's entries refer to, and take away what never happens.

    FastAPI adds its own reply 422 to every route with a parameter. Parameters of ours are texts, which can't
    be wrong; routes whose body can be say so themselves.

    Args:
        app: Whose document.
        settings: Say whether clients need a key, and whether a key may call some tasks only.
    """
    generate, tenants = app.openapi, settings.keys_file is not None
    open_to_all = not (settings.api_keys or tenants)

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document["components"]["schemas"]
        schemas.update(_COMPONENTS)
        for operation in (operation for path in document["paths"].values() for operation in path.values()):
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            if open_to_all and operation.get("security") == [{CLIENT_KEY: []}]:
                del operation["security"]
            if tenants and "401" in operation["responses"]:
                operation["responses"].setdefault("403", operation["responses"]["401"])
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def methods_of(document: dict[str, Any], path: str) -> str:
    """Return what the document has for a path, in the form of the header Allow; empty if it has none."""
    methods: set[str] = set()
    for template, operations in document["paths"].items():
        if compile_path(template)[0].match(path):
            methods |= {method.upper() for method in operations}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def json_body(model: Any, examples: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """Return the entry of a JSON body.

    Args:
        model: What the body is: a type that pydantic knows.
        examples: By name, as `example` makes them.
        required: Whether it may not be missing, or null.
    """
    schema = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}")
    _COMPONENTS.update(schema.pop("$defs", {}))
    if schema.get("type") == "object":  # by its name, so that routes with the same body share it
        _COMPONENTS[schema["title"]] = schema
        schema = {"$ref": f"#/components/schemas/{schema['title']}"}
    if not required:
        schema = {"anyOf": [schema, {"type": "null"}]}
    content = {"schema": schema} | ({"examples": examples} if examples else {})
    return {"required": required, "content": {"application/json": content}}


def example(summary: str, value: object) -> dict[str, Any]:
    """Return the entry of one example."""
    return {"summary": summary, "value": value}


def _kind(kind: TaskKind, *, pair: bool = False) -> HttpKind:
    return http_kind(TaskSpec(kind, (), max_length=0, pair=pair))


_TEXT = _kind("sequence-classification")
_PAIR = _kind("sequence-classification", pair=True)
_WORDS = _kind("token-classification")
_CHOICES = _kind("multiple-choice")
_EMBEDDING = _kind("embedding")
_REQUEST_EXAMPLES = {
    "text": example("one text", _TEXT.example),
    "texts": example("a batch of texts", _TEXT.example_batch),
    "pair": example("one pair of texts", _PAIR.example),
    "pairs": example("a batch of pairs", _PAIR.example_batch),
    "words": example("one sentence in words", _WORDS.example),
    "sentences": example("a batch of sentences in words", _WORDS.example_batch),
    "choices": example("one multiple-choice question", _CHOICES.example),
    "questions": example("a batch of questions", _CHOICES.example_batch),
    "embedding": example("texts to embed", _EMBEDDING.example_batch),
    "huggingface": example(
        "what huggingface_hub.InferenceClient sends",
        {"inputs": "I want my money back", "parameters": {"top_k": 1}},
    ),
}
_SCORES = [{"score": 0.9, "label": "refund"}, {"score": 0.1, "label": "praise"}]
_REPLY_EXAMPLES = {
    "text": example("one text, pair or question: every label, best first", _SCORES),
    "texts": example("a batch: one such list per input", [_SCORES, _SCORES]),
    "words": example("one sentence: one entry per word", [{"word": "Anna", "label": "B-PER", "score": 0.9}]),
    "huggingface": example("classification for huggingface_hub: nested", [_SCORES]),
    "entities": example(
        "tagging for huggingface_hub: entities",
        [{"entity_group": "PER", "score": 0.9, "word": "Anna", "start": 0, "end": 4}],
    ),
    "embedding": example("embeddings: one for each text", [[0.6, -0.8]]),
}

PREDICT_REQUEST_BODY = json_body(PredictBody | EmbedBody, _REQUEST_EXAMPLES)
PREDICT_REPLY: dict[str, Any] = {
    "model": PredictReply,
    "description": "The prediction; headers name the task's version, mask digest and precision",
    "content": {"application/json": {"examples": _REPLY_EXAMPLES}},
}

_ROWS = [
    {"task": "routing", "inputs": "I want my money back"},
    {"task": "same-request", "inputs": ["Where is my parcel?", "My parcel is lost."]},
    {"task": "entities", "tokens": ["Anna", "works", "in", "London", "."]},
    {"task": "best-reply", "context": "My card was stolen.", "choices": ["We block it now.", "Good night."]},
]
PREDICT_MANY_REQUEST_BODY = json_body(
    PredictManyBody | FanOutBody,
    {
        "rows": example("rows of the four tasks of `make demo`", {"inputs": _ROWS}),
        "tasks": example(
            "one text for several tasks", {"inputs": "I want my money back", "tasks": ["routing", "rooting"]}
        ),
    },
)
PREDICT_MANY_REQUEST_BODY["description"] = (
    f"JSON; or, with the content type {NDJSON}, one row a line"  # which generators and testers can't read
)
_ANSWERED = {"task": "routing", "version": 1, "digest": "sha256:0123", "predictions": _SCORES}
_REFUSED = {
    "task": "rooting",
    "error": "unknown task 'rooting'; did you mean 'routing'?",
    "error_type": "NotFound",
}
PREDICT_MANY_REPLY: dict[str, Any] = {
    "model": list[RowPrediction | RowError],
    "description": "The results, in the order of rows or tasks; as lines, in that in which they are ready",
    "content": {
        "application/json": {"example": [_ANSWERED, _REFUSED]},
        NDJSON: {
            "schema": {"type": "string"},
            "example": "".join(
                f"{json.dumps({'index': index, **result})}\n"
                for index, result in ((1, _REFUSED), (0, _ANSWERED))
            ),
        },
    },
}
