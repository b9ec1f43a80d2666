"""The request bodies as pydantic models, with examples that work when pasted.

Which shape a body has is decided by its keys alone: `parameters` makes it a Hugging Face body; else `tokens`,
else `context` or `choices`; anything else is a text-embeddings-inference body. What a task makes of the
inputs is decided in `server.http.parsing`.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from mask_store import TaskKind
from server.http.oip.tensors import InferRequest

_Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _says(expected: str) -> WrapValidator:
    """One message in place of one for every member of a union."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("shape", "must be {expected}", {"expected": expected}) from None

    return WrapValidator(check)


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choices(_Body):
    """One multiple-choice question."""

    context: str = Field(description="what comes before the choices")
    choices: list[str] = Field(min_length=2, description="the choices, at least two")


class TextPair(_Body):
    """A pair of texts, as Hugging Face pipelines name them."""

    text: str
    text_pair: str


_HfInputs = Annotated[
    str | TextPair | Choices | list[str] | list[TextPair] | list[Choices],
    _says("a text, {text, text_pair}, {context, choices}, or a list of one of these"),
]
_TeiInputs = Annotated[
    str | list[str] | list[list[str]] | list[Choices],
    _says("a text, [text, pair], or a batch: a list of [text], of [text, pair] or of {context, choices}"),
]
_Words = Annotated[
    list[_Word] | list[list[_Word]], _says("a list of words, none of them empty, or a list of such lists")
]


class HfParameters(_Body):
    """Parameters of huggingface_hub.InferenceClient; those that a task does not use have no effect."""

    top_k: int | None = Field(None, ge=1, description="classification: the best k labels only")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="classification: what makes scores from logits; softmax by default"
    )
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        None,
        description="tagging: `none` for one entry per word, anything else joins words to entities "
        "(labels are per word, so the strategies agree); simple by default",
    )
    ignore_labels: list[str] | None = Field(
        None, description='tagging: labels to leave out; ["O"] by default'
    )
    stride: int | None = Field(
        None, ge=0, description="accepted; windows of long texts overlap by themselves"
    )
    truncation: bool | None = Field(None, description="cut texts that are too long instead of refusing them")
    truncate: bool | None = Field(None, description="the same as `truncation`")


class HfBody(_Body):
    """Body of huggingface_hub.InferenceClient; the reply has the shape that it parses."""

    inputs: _HfInputs
    parameters: HfParameters
    options: dict[str, Any] | None = Field(None, description="accepted, without effect")


class TeiBody(_Body):
    """Body of text-embeddings-inference's /predict. A flat list of two strings is ONE pair."""

    inputs: _TeiInputs = Field(
        description="a text; [text, pair]; or a batch of such lists: [[text], [text, pair]]"
    )
    truncate: bool | None = Field(None, description="cut texts that are too long instead of refusing them")
    truncation_direction: Literal["Right", "right"] = Field("Right", description="texts are cut at the end")
    raw_scores: bool = Field(False, description="logits in place of probabilities")


class TokensBody(_Body):
    """Sentences that are already split into words, for token classification."""

    tokens: _Words = Field(description="the words of one sentence, or of several")
    truncate: bool | None = Field(None, description="accepted; long sentences become overlapping windows")
    raw_scores: bool = Field(False, description="logits in place of probabilities")


class ChoicesBody(Choices):
    """One multiple-choice question; send several as {"inputs": [...]}."""

    truncate: bool | None = Field(None, description="cut texts that are too long instead of refusing them")
    raw_scores: bool = Field(False, description="logits in place of probabilities")


class BulkBody(_Body):
    """Rows of many tasks."""

    inputs: list[Any] = Field(
        description="rows, each a body of POST /predict/{task} with the key `task`: the task's name"
    )


def _shape(body: object) -> str:
    keys = body.keys() if isinstance(body, dict) else set()
    if "parameters" in keys:
        return "hf"
    if "tokens" in keys:
        return "tokens"
    return "choices" if {"context", "choices"} & keys else "tei"


PredictBody = Annotated[
    Annotated[HfBody, Tag("hf")]
    | Annotated[TokensBody, Tag("tokens")]
    | Annotated[ChoicesBody, Tag("choices")]
    | Annotated[TeiBody, Tag("tei")],
    Discriminator(_shape),
]

predict_body: TypeAdapter[HfBody | TokensBody | ChoicesBody | TeiBody] = TypeAdapter(PredictBody)


def example_body(kind: TaskKind, *, pair: bool) -> dict[str, Any]:
    """A body that a task of this kind answers."""
    if kind == "token-classification":
        return {"tokens": ["Anna", "works", "in", "London", "."]}
    if kind == "multiple-choice":
        return {"context": "She opened the door and", "choices": ["walked in.", "ate the roof."]}
    return {"inputs": ["A man sleeps.", "Someone is asleep."] if pair else "I want my money back"}


def example_batch(kind: TaskKind, *, pair: bool) -> dict[str, Any]:
    """A batch that a task of this kind answers."""
    if kind == "token-classification":
        return {"tokens": [["I", "slept", "."], ["Anna", "left", "."]]}
    if kind == "multiple-choice":
        return {"inputs": [example_body(kind, pair=pair)]}
    if pair:
        return {"inputs": [["A man sleeps.", "He is awake."], ["It rains.", "It pours."]]}
    return {"inputs": [["I want my money back"], ["thanks, it works"]]}


def _example(summary: str, value: object) -> dict[str, Any]:
    return {"summary": summary, "value": value}


_REQUEST_EXAMPLES = {
    "text": _example("one text", example_body("sequence-classification", pair=False)),
    "texts": _example("a batch of texts", example_batch("sequence-classification", pair=False)),
    "pair": _example("one pair of texts", example_body("sequence-classification", pair=True)),
    "pairs": _example("a batch of pairs", example_batch("sequence-classification", pair=True)),
    "words": _example("one sentence in words", example_body("token-classification", pair=False)),
    "sentences": _example("a batch of sentences in words", example_batch("token-classification", pair=False)),
    "choices": _example("one multiple-choice question", example_body("multiple-choice", pair=False)),
    "questions": _example("a batch of questions", example_batch("multiple-choice", pair=False)),
    "huggingface": _example(
        "what huggingface_hub.InferenceClient sends",
        {"inputs": "I want my money back", "parameters": {"top_k": 1}},
    ),
}
_SCORES = [{"score": 0.9, "label": "refund"}, {"score": 0.1, "label": "praise"}]
_REPLY_EXAMPLES = {
    "text": _example("one text, pair or question: every label, best first", _SCORES),
    "texts": _example("a batch: one such list per input", [_SCORES, _SCORES]),
    "words": _example("one sentence: one entry per word", [{"word": "Anna", "label": "B-PER", "score": 0.9}]),
    "huggingface": _example("classification for huggingface_hub: nested", [_SCORES]),
    "entities": _example(
        "tagging for huggingface_hub: entities",
        [{"entity_group": "PER", "score": 0.9, "word": "Anna", "start": 0, "end": 4}],
    ),
}
_REFERENCE = "#/components/schemas/{model}"
COMPONENTS: dict[str, Any] = {}


def _json_body(model: TypeAdapter[Any], examples: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI entry of a body that its route reads by itself; its parts go into `COMPONENTS`."""
    schema = model.json_schema(ref_template=_REFERENCE)
    COMPONENTS.update(schema.pop("$defs", {}))
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


PREDICT_REQUEST_BODY = _json_body(predict_body, _REQUEST_EXAMPLES)
PREDICT_REPLY: dict[str, Any] = {
    "description": "The prediction; headers name the task's version and mask digest",
    "content": {"application/json": {"examples": _REPLY_EXAMPLES}},
}


NDJSON = "application/x-ndjson"
_ROWS = [
    {"task": "routing", "inputs": "I want my money back"},
    {"task": "same-request", "inputs": ["Where is my parcel?", "My parcel is lost."]},
    {"task": "entities", "tokens": ["Anna", "works", "in", "London", "."]},
    {"task": "best-reply", "context": "My card was stolen.", "choices": ["We block it now.", "Good night."]},
]
BULK_REQUEST_BODY = _json_body(
    TypeAdapter(BulkBody), {"rows": _example("rows of the four tasks of `make demo`", {"inputs": _ROWS})}
)
BULK_REQUEST_BODY["content"][NDJSON] = {
    "schema": {"type": "string"},
    "example": "".join(f"{json.dumps(row)}\n" for row in _ROWS),
}
_ANSWERED = {"task": "routing", "version": 1, "digest": "sha256:0123", "predictions": _SCORES}
_REFUSED = {
    "task": "rooting",
    "error": "unknown task 'rooting'; did you mean 'routing'?",
    "error_type": "NotFound",
}
BULK_REPLY: dict[str, Any] = {
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


def _tensor(name: str, values: list[Any], shape: list[int], datatype: str = "BYTES") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": values}


_INFER_EXAMPLES = {
    "texts": _example(
        "texts", {"inputs": [_tensor("text", ["I want my money back", "thanks, it works"], [2])]}
    ),
    "pairs": _example(
        "pairs of texts",
        {"inputs": [_tensor("text", ["A man sleeps."], [1]), _tensor("text_pair", ["He is awake."], [1])]},
    ),
    "words": _example("token classification", {"inputs": [_tensor("text", ["Anna works in London."], [1])]}),
    "questions": _example(
        "multiple choice, two choices per question",
        {
            "inputs": [
                _tensor("context", ["She opened the door and"], [1]),
                _tensor("choices", ["walked in.", "ate the roof."], [1, 2]),
            ]
        },
    ),
    "logits": _example(
        "the logits alone, of texts that may be cut",
        {
            "id": "7",
            "parameters": {"raw_scores": True, "truncate": True},
            "inputs": [_tensor("text", ["I want my money back"], [1])],
            "outputs": [{"name": "scores"}],
        },
    ),
}
INFER_REQUEST_BODY = _json_body(TypeAdapter(InferRequest), _INFER_EXAMPLES)
INFER_REPLY: dict[str, Any] = {
    "description": "The outputs; binary ones follow the JSON, as Inference-Header-Content-Length says",
    "content": {
        "application/json": {
            "example": {
                "model_name": "inbox",
                "model_version": "1",
                "outputs": [
                    _tensor("label", ["refund"], [1]),
                    _tensor("scores", [0.9, 0.1], [1, 2], "FP32"),
                ],
            }
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
