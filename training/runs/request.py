"""Request that is printed at the end of a run, to be pasted: made of a dev example, short, and answered."""

import json
from collections.abc import Sequence
from dataclasses import replace

from masking import ChoiceInput, TaskCodec, TaskInput, TaskInputError, TextInput, WordsInput
from masking.tasks import MODEL_KINDS
from training.data.features import EncodedExample

LONGEST_BODY = 300
_WORDS = (24, 12, 6, 3, 1)  # that each text is cut to, until the whole fits
_CHARACTERS = 8  # of a word at most, for texts without spaces


def sample_input(examples: Sequence[EncodedExample], codec: TaskCodec) -> TaskInput:
    """Return the first dev input that is short and fits the task, or else the first one cut at a word.

    Args:
        examples: At least one, encoded for the task.
        codec: The task's codec.
    """
    given = [_asked(item.example.input, codec) for item in examples]
    for item, one in zip(examples, given, strict=True):
        if not item.features.truncated and _is_short(one):
            return one
    for words in _WORDS:
        cut = _cut(given[0], words)
        if _is_short(cut) and _fits(cut, codec):
            return cut
    return MODEL_KINDS[codec.spec.kind].sample(codec.spec)


def request_body(task_input: TaskInput) -> dict[str, object]:
    """Return the JSON body that asks a server for the prediction of one input."""
    match task_input:
        case TextInput(text, None):
            return {"inputs": text}
        case TextInput(text, pair):
            return {"inputs": [text, pair]}
        case WordsInput(words):
            return {"tokens": list(words)}
        case ChoiceInput(context, choices):
            return {"context": context, "choices": list(choices)}


def _asked(task_input: TaskInput, codec: TaskCodec) -> TaskInput:
    """Return what a server is asked; embeddings are learned from pairs, and asked of one text."""
    if isinstance(task_input, TextInput) and codec.spec.pooling is not None:
        return replace(task_input, pair=None)
    return task_input


def _is_short(task_input: TaskInput) -> bool:
    return len(json.dumps(request_body(task_input))) <= LONGEST_BODY


def _fits(task_input: TaskInput, codec: TaskCodec) -> bool:
    try:
        codec.encode([task_input], truncate=False)
    except TaskInputError:
        return False
    return True


def _cut(task_input: TaskInput, words: int) -> TaskInput:
    match task_input:
        case TextInput(text, pair):
            return TextInput(_beginning(text, words), pair and _beginning(pair, words))
        case WordsInput(given):
            return WordsInput(tuple(word[: _CHARACTERS * words] for word in given[:words]))
        case ChoiceInput(context, choices):
            shorter = tuple(_beginning(choice, words) for choice in choices)
            return replace(task_input, context=_beginning(context, words), choices=shorter)


def _beginning(text: str, words: int) -> str:
    return " ".join(text.split()[:words])[: _CHARACTERS * words].strip()
