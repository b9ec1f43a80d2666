"""From a request body to the inputs of a task, by the kind of the task.

Says which shape a task takes, with an example, when a body has another. Does not tokenise.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from masking import ChoiceInput, LoadedTask, TaskInput, TaskSpec, TextInput, Word, WordsInput, split_words
from server.errors import EmptyBatchError, InvalidBodyError, to_server_error
from server.http.schemas import (
    Choices,
    ChoicesBody,
    HfBody,
    TeiBody,
    TextPair,
    TokensBody,
    example_batch,
    example_body,
    predict_body,
)

Body = HfBody | TokensBody | ChoicesBody | TeiBody
ScoreFunction = Literal["softmax", "sigmoid", "none"]

_PAIR = 2


@dataclass(frozen=True)
class Reply:
    """How the answer is to look.

    Attributes:
        shape: "hf" for huggingface_hub, "tei" for everyone else.
        batched: The body held a batch: answer with a list, even for one input.
        function: What makes scores from logits.
        top_k: The best k classes only; None for all.
        ignored: Labels left out of entities.
        grouped: Join words to entities.
    """

    shape: Literal["hf", "tei"]
    batched: bool
    function: ScoreFunction = "softmax"
    top_k: int | None = None
    ignored: frozenset[str] = frozenset({"O"})
    grouped: bool = True


@dataclass(frozen=True)
class Request:
    """A body that was understood.

    Attributes:
        inputs: The task's inputs, at least one.
        truncate: Cut long texts instead of refusing them.
        reply: How the answer is to look.
        texts: Token classification of running text: the texts, per input.
        words: The words that the texts were split into, per input.
    """

    inputs: tuple[TaskInput, ...]
    truncate: bool
    reply: Reply
    texts: tuple[str, ...] = ()
    words: tuple[tuple[Word, ...], ...] = ()

    @property
    def rows(self) -> int:
        """Rows that the inputs have at least; windows of long ones come on top."""
        return sum(len(item.choices) if isinstance(item, ChoiceInput) else 1 for item in self.inputs)


def parse_body(body: bytes | dict[str, Any], task: LoadedTask) -> Body:
    """The body in its shape.

    Args:
        body: JSON, or an object that was parsed from it.
        task: The task that it is for.

    Raises:
        MalformedBodyError: It is no JSON.
        InvalidBodyError: It has no known shape; the message ends with an example that this task answers.
    """
    try:
        if isinstance(body, bytes):
            return predict_body.validate_json(body)
        return predict_body.validate_python(body)
    except ValidationError as error:
        refusal = to_server_error(error)
        if isinstance(refusal, InvalidBodyError):
            example = json.dumps(example_body(task.spec.kind, pair=task.spec.pair))
            refusal = InvalidBodyError(f"{refusal.message}; an example of what this task takes: {example}")
        raise refusal from None


def read_request(body: Body, task: LoadedTask) -> Request:
    """Turn a body into inputs of the task.

    Raises:
        InvalidBodyError: The body is of a shape that this task does not take.
        EmptyBatchError: The body is a batch without inputs.
    """
    inputs, batched = _collect(body, task)
    if not inputs:
        raise EmptyBatchError
    reply = replace(_reply_of(body), batched=batched)
    if isinstance(body, HfBody):
        truncate = bool(body.parameters.truncation or body.parameters.truncate)
    else:
        truncate = bool(body.truncate)
    if task.spec.kind == "token-classification" and not isinstance(body, TokensBody):
        return _split(inputs, truncate, reply)
    return Request(tuple(inputs), truncate, reply)


def _reply_of(body: Body) -> Reply:
    if not isinstance(body, HfBody):
        return Reply("tei", batched=False, function="none" if body.raw_scores else "softmax")
    wanted = body.parameters
    return Reply(
        "hf",
        batched=False,
        function=wanted.function_to_apply or "softmax",
        top_k=wanted.top_k,
        ignored=frozenset(["O"] if wanted.ignore_labels is None else wanted.ignore_labels),
        grouped=wanted.aggregation_strategy != "none",
    )


def _split(inputs: Sequence[TaskInput], truncate: bool, reply: Reply) -> Request:
    """Texts for a token-classification task, split into words that remember where they stood."""
    texts = tuple(item.text for item in inputs if isinstance(item, TextInput))
    words = tuple(split_words(text) for text in texts)
    sentences = tuple(WordsInput(tuple(word.text for word in sentence)) for sentence in words)
    return Request(sentences, truncate, reply, texts, words)


def _collect(body: Body, task: LoadedTask) -> tuple[Sequence[TaskInput], bool]:
    """The inputs, and whether the body is a batch."""
    match body:
        case TokensBody():
            inputs, batched = _from_tokens(body)
        case ChoicesBody():
            inputs, batched = [_choice(body)], False
        case HfBody():
            inputs, batched = _from_hf(body)
        case TeiBody():
            inputs, batched = _from_tei(body)
    if not all(_fits(item, task.spec) for item in inputs):
        raise InvalidBodyError(_what_it_takes(task))
    return inputs, batched


def _fits(item: TaskInput, spec: TaskSpec) -> bool:
    if isinstance(item, TextInput):
        return spec.kind != "multiple-choice" and (item.pair is not None) == spec.pair
    wanted = {"token-classification": WordsInput, "multiple-choice": ChoiceInput}
    return type(item) is wanted.get(spec.kind)


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


def _what_it_takes(task: LoadedTask) -> str:
    spec = task.spec
    wanted = {
        "token-classification": "words or a text",
        "multiple-choice": "a context and choices",
        "sequence-classification": "a pair of texts per input" if spec.pair else "one text per input",
    }[spec.kind]
    example = json.dumps(example_body(spec.kind, pair=spec.pair))
    batch = json.dumps(example_batch(spec.kind, pair=spec.pair))
    return f"task {task.manifest.task!r} ({spec.kind}) takes {wanted}: {example}, or a batch: {batch}"
