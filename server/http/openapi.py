"""OpenAPI entries of errors and of the bodies that routes read by themselves, with examples that work."""

import json
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field, TypeAdapter

from mask_store import TaskKind
from masking import TaskSpec
from server.http.body import NDJSON
from server.http.kinds import HttpKind, http_kind
from server.http.schemas import PredictBody, PredictManyBody

_COMPONENTS: dict[str, Any] = {}


class ErrorReply(BaseModel):
    """Body of every error."""

    error: str = Field(description="what is wrong, for people")
    error_type: str = Field(description="what is wrong, for programs")


def errors(*statuses: int) -> dict[int | str, dict[str, type[BaseModel]]]:
    """Return OpenAPI responses: the statuses that answer with an error body."""
    return {status: {"model": ErrorReply} for status in statuses}


def add_components(app: FastAPI) -> None:
    """Let the OpenAPI document have the parts that the entries of this module refer to."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(_COMPONENTS)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def json_body(model: Any, examples: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """Return the entry of a JSON body.

    Args:
        model: What the body is: a type that pydantic knows.
        examples: By name, as `example` makes them.
        required: Whether it may not be missing.
    """
    schema = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}")
    _COMPONENTS.update(schema.pop("$defs", {}))
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
_REQUEST_EXAMPLES = {
    "text": example("one text", _TEXT.example),
    "texts": example("a batch of texts", _TEXT.example_batch),
    "pair": example("one pair of texts", _PAIR.example),
    "pairs": example("a batch of pairs", _PAIR.example_batch),
    "words": example("one sentence in words", _WORDS.example),
    "sentences": example("a batch of sentences in words", _WORDS.example_batch),
    "choices": example("one multiple-choice question", _CHOICES.example),
    "questions": example("a batch of questions", _CHOICES.example_batch),
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
}

PREDICT_REQUEST_BODY = json_body(PredictBody, _REQUEST_EXAMPLES)
PREDICT_REPLY: dict[str, Any] = {
    "description": "The prediction; headers name the task's version and mask digest",
    "content": {"application/json": {"examples": _REPLY_EXAMPLES}},
}

_ROWS = [
    {"task": "routing", "inputs": "I want my money back"},
    {"task": "same-request", "inputs": ["Where is my parcel?", "My parcel is lost."]},
    {"task": "entities", "tokens": ["Anna", "works", "in", "London", "."]},
    {"task": "best-reply", "context": "My card was stolen.", "choices": ["We block it now.", "Good night."]},
]
PREDICT_MANY_REQUEST_BODY = json_body(
    PredictManyBody,
    {"rows": example("rows of the four tasks of `make demo`", {"inputs": _ROWS})},
)
PREDICT_MANY_REQUEST_BODY["content"][NDJSON] = {
    "schema": {"type": "string"},
    "example": "".join(f"{json.dumps(row)}\n" for row in _ROWS),
}
_ANSWERED = {"task": "routing", "version": 1, "digest": "sha256:0123", "predictions": _SCORES}
_REFUSED = {
    "task": "rooting",
    "error": "unknown task 'rooting'; did you mean 'routing'?",
    "error_type": "NotFound",
}
PREDICT_MANY_REPLY: dict[str, Any] = {
    "description": "The results, in the order of the rows; as lines, in the order in which they are ready",
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
