"""From predictions to the JSON of a reply, in the shape that the client's library parses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masking import (
    ChoiceInput,
    ClassPrediction,
    LoadedTask,
    Prediction,
    TaskInput,
    Word,
    WordsInput,
    WordsPrediction,
    group_entities,
)
from server.http.parsing import Reply, Request, ScoreFunction

Floats = NDArray[np.float32]
Json = dict[str, Any] | list[Any]


def render(task: LoadedTask, request: Request, logits: Sequence[Floats]) -> Json:
    """Decode the logits of a request's inputs and give them the shape that was asked for.

    Args:
        task: The version that computed them.
        request: The inputs, and how the reply is to look.
        logits: float32 per input: [labels], [words, labels] or [choices].

    Returns:
        The reply, ready for JSON.
    """
    predictions = [task.codec.decode(values) for values in logits]
    answers = [_answer(task, request, index, prediction) for index, prediction in enumerate(predictions)]
    nested = request.reply.shape == "hf" and task.spec.kind != "token-classification"
    return answers if request.reply.batched or nested else answers[0]


def scores_of(prediction: ClassPrediction | WordsPrediction, function: ScoreFunction) -> Floats:
    """What the function makes of the logits: float32 of their shape."""
    if function == "softmax":
        return prediction.scores
    if function == "none":
        return prediction.logits
    squashed: Floats = np.exp(-np.logaddexp(0.0, -prediction.logits.astype(np.float64))).astype(np.float32)
    return squashed


def _answer(task: LoadedTask, request: Request, index: int, prediction: Prediction) -> list[dict[str, Any]]:
    given, reply = request.inputs[index], request.reply
    if isinstance(prediction, ClassPrediction):
        return _classes(task.spec.labels, given, prediction, reply)
    words = request.words[index] if request.words else ()
    if reply.shape == "hf":
        return _entities(request.texts[index], words, prediction, reply)
    return _tags(given, words, prediction, reply)


def _classes(
    labels: Sequence[str], given: TaskInput, prediction: ClassPrediction, reply: Reply
) -> list[dict[str, Any]]:
    """Every class, or the best k, best first."""
    scores = scores_of(prediction, reply.function)
    order = np.argsort(-prediction.logits, kind="stable")[: reply.top_k]
    names = labels or [str(i) for i in range(len(scores))]
    entries = [{"score": float(scores[i]), "label": names[i]} for i in order]
    if isinstance(given, ChoiceInput):
        return [{**entry, "text": given.choices[i]} for i, entry in zip(order, entries, strict=True)]
    return entries


def _tags(
    given: TaskInput, words: Sequence[Word], prediction: WordsPrediction, reply: Reply
) -> list[dict[str, Any]]:
    """One entry per word, in order; with its place where this server split the text."""
    assert isinstance(given, WordsInput)
    scores = _best_scores(prediction, reply.function)
    entries: list[dict[str, Any]] = [
        {"word": word, "label": label, "score": score}
        for word, label, score in zip(given.words, prediction.labels, scores, strict=True)
    ]
    for entry, word in zip(entries, words, strict=False):
        entry.update(start=word.start, end=word.end)
    return entries


def _entities(
    text: str, words: Sequence[Word], prediction: WordsPrediction, reply: Reply
) -> list[dict[str, Any]]:
    """Hugging Face's token classification: entities, or words for the strategy "none"."""
    scores = _best_scores(prediction, "softmax")
    if not reply.grouped:
        return [
            {
                "entity": label,
                "score": score,
                "index": i,
                "word": word.text,
                "start": word.start,
                "end": word.end,
            }
            for i, (word, label, score) in enumerate(zip(words, prediction.labels, scores, strict=True))
            if label not in reply.ignored
        ]
    return [
        {
            "entity_group": entity.label,
            "score": entity.score,
            "word": text[entity.start : entity.end],
            "start": entity.start,
            "end": entity.end,
        }
        for entity in group_entities(words, prediction.labels, scores)
        if entity.label not in reply.ignored
    ]


def _best_scores(prediction: WordsPrediction, function: ScoreFunction) -> list[float]:
    scores = scores_of(prediction, function)
    return [float(scores[word, index]) for word, index in enumerate(prediction.indices)]
