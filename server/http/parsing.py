"""Request parsing: from a request body to what is to be predicted, and how the reply is to look.

A body of a shape that the task does not take is refused with one that it does.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from masking import ChoiceInput, KnownTask, TaskInput, TextInput, WordsInput
from server.engine.batch import BatchLimits
from server.errors import EmptyBatchError, InvalidBodyError, MalformedBodyError
from server.http.error_mapping import invalid_body
from server.http.kinds import HttpKind, http_kind
from server.http.kinds.kind import KindBody, ReplyFormat
from server.http.schemas import (
    Choices,
    ChoicesBody,
    HfBody,
    HfText,
    PredictBody,
    TeiBody,
    TokensBody,
    validate_body,
)
from server.predictor import PredictRequest

_PAIR = 2
_Body = TypeVar("_Body")


def parse_json(body: bytes) -> Any:
    """Parse the JSON of a body.

    Raises:
        MalformedBodyError: It is not JSON.
    """
    try:
        return from_json(body)
    except ValueError as error:
        raise MalformedBodyError(f"the body is not JSON: {error}") from None


def parse_request(
    body: bytes | dict[str, Any], task: KnownTask, limits: BatchLimits, *, hugging_face: bool = False
) -> tuple[PredictRequest, ReplyFormat]:
    """Read a body of POST /predict/{task}.

    Args:
        body: JSON, or an object that was parsed from it.
        task: The task that it is for.
        limits: What can ever be admitted; a list of more is refused unread.
        hugging_face: Whether the client is known to be Hugging Face's.

    Returns:
        What is to be predicted, and how the reply is to look.

    Raises:
        MalformedBodyError: It is not JSON.
        InvalidBodyError: It has no known shape, or one that this task does not take; the message ends with an
            example of what it takes.
        EmptyBatchError: It is a batch without inputs.
    """
    parsed = parse_json(body) if isinstance(body, bytes) else body
    check_lists(parsed, limits)
    kind = http_kind(task.spec)
    if kind.body is not None:
        own = kind.body
        return parse_own_body(_validate(lambda: own.model_validate(parsed), kind), task, limits)
    known = _validate(lambda: validate_body(parsed, hugging_face=hugging_face), kind)
    return request_of(known, task, limits)


def request_of(
    known: PredictBody, task: KnownTask, limits: BatchLimits
) -> tuple[PredictRequest, ReplyFormat]:
    """Return what a body of a known shape asks of a task; see `parse_request`."""
    inputs, batched = _inputs_of(known)
    cuts = bool(known.truncate) or (isinstance(known, HfBody) and known.wanted.cuts)
    if isinstance(known, TeiBody) and cuts and known.truncation_direction == "left":
        raise InvalidBodyError("truncation_direction: texts are cut at their end: right")
    shape = _reply_format(known, batched=batched)
    request, reply = to_request(inputs, task, limits, truncate=cuts, reply=shape)
    return replace(request, max_length=_max_length(known, task) if cuts else None), reply


def parse_own_body(
    body: KindBody, task: KnownTask, limits: BatchLimits
) -> tuple[PredictRequest, ReplyFormat]:
    """Read a body that only one kind of task takes; see `parse_request`.

    Raises:
        InvalidBodyError: The task can't do what is asked for, or there are more inputs than are admitted.
        EmptyBatchError: There are no inputs.
    """
    inputs = body.read(task.spec)
    check_count("inputs", inputs, limits.waiting)
    return to_request(inputs, task, limits, truncate=body.cuts, reply=body.reply)


def check_count(key: str, elements: Sequence[object], most: int) -> None:
    """Refuse more elements than can be admitted.

    Raises:
        InvalidBodyError: Names both numbers.
    """
    if len(elements) > most:
        raise InvalidBodyError(f"{key}: has {len(elements)} elements and at most {most} are read")


def check_lists(body: object, limits: BatchLimits) -> None:
    """Refuse what can't be admitted before an object is made of each element."""
    given = body if isinstance(body, dict) else {}
    tokens = given.get("tokens")
    words = isinstance(tokens, list) and not (tokens and isinstance(tokens[0], list))
    most_of = {
        "inputs": limits.waiting,
        "tokens": limits.tokens if words else limits.waiting,
        "choices": limits.rows,
    }
    for key, most in most_of.items():
        if isinstance(value := given.get(key), list):
            check_count(key, value, most)


def _max_length(body: PredictBody, task: KnownTask) -> int | None:
    """Return the length that texts are to be cut to; None for the task's own."""
    wanted = body.wanted.max_length if isinstance(body, HfBody) else None
    if wanted is None or not http_kind(task.spec).cuts:
        return None
    if wanted < (shortest := task.codec.shortest_row):
        raise InvalidBodyError(f"parameters.max_length: at least {shortest} tokens, not {wanted}")
    return wanted


def to_request(
    inputs: Sequence[TaskInput],
    task: KnownTask,
    limits: BatchLimits,
    *,
    truncate: bool,
    reply: ReplyFormat,
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
    if split := kind.split(inputs, most_words=limits.tokens):
        words = [tuple(word.text for word in one.words) for one in split]
        reply = replace(reply, split_texts=split)
    elif sent := tuple(item.words for item in inputs if isinstance(item, WordsInput)):
        words = [tuple(filter(None, one)) for one in sent]  # those of white space are passed over
        reply = replace(reply, sent_words=sent)
    else:
        return PredictRequest(tuple(inputs), truncate), reply
    return PredictRequest(tuple(map(WordsInput, words)), truncate), reply


def _validate(validate: Callable[[], _Body], kind: HttpKind) -> _Body:
    try:
        return validate()
    except ValidationError as error:
        example = json.dumps(kind.example)
        raise InvalidBodyError(
            f"{invalid_body(error).message}; an example of what this task takes: {example}"
        ) from None


def _reply_format(body: PredictBody, *, batched: bool) -> ReplyFormat:
    if not isinstance(body, HfBody):
        return ReplyFormat("tei", batched, "none" if body.raw_scores else None)
    wanted = body.wanted
    return ReplyFormat(
        "hf",
        batched,
        function=wanted.function_to_apply,
        top_k=wanted.most_labels,
        ignored=frozenset(["O"] if wanted.ignore_labels is None else wanted.ignore_labels),
        grouped=wanted.groups_words,
    )


def _inputs_of(body: PredictBody) -> tuple[list[TaskInput], bool]:
    """Return the inputs, and whether the body is a batch."""
    match body:
        case TokensBody():
            return _from_tokens(body)
        case ChoicesBody():
            return [_choice(body)], False
    given = body.inputs
    if not isinstance(given, list):
        return [_from_item(given)], False
    texts = [item for item in given if isinstance(item, str)]
    if texts and isinstance(body, TeiBody):
        return [_text(texts)], False
    return [_from_item(item) for item in given], True


def _from_tokens(body: TokensBody) -> tuple[list[TaskInput], bool]:
    if not body.tokens:
        return [], False
    sentences = [sentence for sentence in body.tokens if isinstance(sentence, list)]
    words = [word for word in body.tokens if isinstance(word, str)]
    if words:
        return [WordsInput(tuple(words))], False
    return [WordsInput(tuple(sentence)) for sentence in sentences], True


def _from_item(item: str | HfText | Choices | list[str]) -> TaskInput:
    match item:
        case str():
            return TextInput(item)
        case HfText():
            return TextInput(item.text, item.text_pair)
        case Choices():
            return _choice(item)
    return _text(item)


def _choice(item: Choices) -> ChoiceInput:
    return ChoiceInput(item.context, tuple(item.choices))


def _text(texts: list[str]) -> TextInput:
    if not 1 <= len(texts) <= _PAIR:
        raise InvalidBodyError(
            f"an input is one text or a pair of texts, not {len(texts)}; "
            'a batch is a list of lists: {"inputs": [["one text"], ["another"]]}'
        )
    return TextInput(*texts)


def _what_it_takes(task: KnownTask, kind: HttpKind) -> str:
    example, batch = json.dumps(kind.example), json.dumps(kind.example_batch)
    name = f"task {task.name!r} ({task.spec.kind})"
    return f"{name} takes {kind.takes}: {example}, or a batch: {batch}"
