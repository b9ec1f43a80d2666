"""Request parsing: from a request body to what is to be predicted, and how the reply is to look.

A body of a shape that the task does not take is refused with one that it does.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from masking import ChoiceInput, LoadedTask, TaskInput, TextInput, WordsInput
from server.errors import EmptyBatchError, InvalidBodyError
from server.http.error_mapping import invalid_body
from server.http.kinds import HttpKind, http_kind
from server.http.kinds.kind import ReplyFormat
from server.http.schemas import (
    Choices,
    ChoicesBody,
    HfBody,
    TeiBody,
    TextPair,
    TokensBody,
    predict_body,
)
from server.predictor import PredictRequest

Body = HfBody | TokensBody | ChoicesBody | TeiBody

_PAIR = 2


def parse_request(body: bytes | dict[str, Any], task: LoadedTask) -> tuple[PredictRequest, ReplyFormat]:
    """Read a body of POST /predict/{task}.

    Args:
        body: JSON, or an object that was parsed from it.
        task: The task that it is for.

    Returns:
        What is to be predicted, and how the reply is to look.

    Raises:
        MalformedBodyError: It is not JSON.
        InvalidBodyError: It has no known shape, or one that this task does not take; the message ends with an
            example of what it takes.
        EmptyBatchError: It is a batch without inputs.
    """
    known = _validate(body, http_kind(task.spec))
    inputs, batched = _inputs_of(known)
    if isinstance(known, HfBody):
        truncate = known.parameters.truncation or known.parameters.truncate
    else:
        truncate = known.truncate
    return to_request(inputs, task, truncate=bool(truncate), reply=_reply_format(known, batched=batched))


def to_request(
    inputs: Sequence[TaskInput], task: LoadedTask, *, truncate: bool, reply: ReplyFormat
) -> tuple[PredictRequest, ReplyFormat]:
    """Check that inputs are of the form that a task takes, and split texts where it takes words.

    Raises:
        InvalidBodyError: An input is of another form.
        EmptyBatchError: There are no inputs.
    """
    kind = http_kind(task.spec)
    if not all(kind.accepts(item) for item in inputs):
        raise InvalidBodyError(_what_it_takes(task, kind))
    if not inputs:
        raise EmptyBatchError
    if not (split := kind.split(inputs)):
        return PredictRequest(tuple(inputs), truncate), reply
    words = (WordsInput(tuple(word.text for word in one.words)) for one in split)
    return PredictRequest(tuple(words), truncate), replace(reply, split_texts=split)


def _validate(body: bytes | dict[str, Any], kind: HttpKind) -> Body:
    try:
        if isinstance(body, bytes):
            return predict_body.validate_json(body)
        return predict_body.validate_python(body)
    except ValidationError as error:
        refusal = invalid_body(error, skipped=1)  # the name of the shape
        if isinstance(refusal, InvalidBodyError):
            example = json.dumps(kind.example)
            refusal = InvalidBodyError(f"{refusal.message}; an example of what this task takes: {example}")
        raise refusal from None


def _reply_format(body: Body, *, batched: bool) -> ReplyFormat:
    if not isinstance(body, HfBody):
        return ReplyFormat("tei", batched, "none" if body.raw_scores else "softmax")
    wanted = body.parameters
    return ReplyFormat(
        "hf",
        batched,
        function=wanted.function_to_apply or "softmax",
        top_k=wanted.top_k,
        ignored=frozenset(["O"] if wanted.ignore_labels is None else wanted.ignore_labels),
        grouped=wanted.aggregation_strategy != "none",
    )


def _inputs_of(body: Body) -> tuple[list[TaskInput], bool]:
    """Return the inputs, and whether the body is a batch."""
    match body:
        case TokensBody():
            return _from_tokens(body)
        case ChoicesBody():
            return [_choice(body)], False
        case HfBody():
            return _from_hf(body)
        case TeiBody():
            return _from_tei(body)


def _from_tokens(body: TokensBody) -> tuple[list[TaskInput], bool]:
    if not body.tokens:
        return [], False
    sentences = [sentence for sentence in body.tokens if isinstance(sentence, list)]
    words = [word for word in body.tokens if isinstance(word, str)]
    if words:
        return [WordsInput(tuple(words))], False
    return [WordsInput(tuple(sentence)) for sentence in sentences], True


def _from_hf(body: HfBody) -> tuple[list[TaskInput], bool]:
    batched = isinstance(body.inputs, list)
    items = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    return [_from_item(item) for item in items], batched


def _from_tei(body: TeiBody) -> tuple[list[TaskInput], bool]:
    given = body.inputs
    if isinstance(given, str):
        return [TextInput(given)], False
    texts = [item for item in given if isinstance(item, str)]
    if texts:
        return [_text(texts)], False
    return [_text(item) if isinstance(item, list) else _from_item(item) for item in given], True


def _from_item(item: str | TextPair | Choices) -> TaskInput:
    if isinstance(item, str):
        return TextInput(item)
    return _choice(item) if isinstance(item, Choices) else TextInput(item.text, item.text_pair)


def _choice(item: Choices) -> ChoiceInput:
    return ChoiceInput(item.context, tuple(item.choices))


def _text(texts: list[str]) -> TextInput:
    if not 1 <= len(texts) <= _PAIR:
        raise InvalidBodyError(
            f"an input is one text or a pair of texts, not {len(texts)}; "
            'a batch is a list of lists: {"inputs": [["one text"], ["another"]]}'
        )
    return TextInput(*texts)


def _what_it_takes(task: LoadedTask, kind: HttpKind) -> str:
    example, batch = json.dumps(kind.example), json.dumps(kind.example_batch)
    name = f"task {task.manifest.task!r} ({task.spec.kind})"
    return f"{name} takes {kind.takes}: {example}, or a batch: {batch}"
