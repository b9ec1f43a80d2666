"""Token classification over HTTP: words, or a running text that is split into words, per input."""

from collections.abc import Mapping, Sequence

from pydantic_core import to_json

from masking import (
    Prediction,
    TaskInput,
    TextInput,
    WordsInput,
    WordsPrediction,
    entities_of,
    split_words,
)
from server.errors import InvalidBodyError
from server.http.kinds.kind import HttpKind, Json, ReplyFormat, ScoreFunction, SplitText, scores_of
from server.http.kinds.tensors import OutputTensor, TensorInfo, Texts

_OUTSIDE = "O"  # the label of a word that shows nothing and is not computed
_SENTENCE: Json = {"tokens": ["Anna", "works", "in", "London", "."]}
_SENTENCES: Json = {"tokens": [["I", "slept", "."], ["Anna", "left", "."]]}


class TokenClassification(HttpKind):
    """See `HttpKind`."""

    pipeline_tag = "token-classification"
    nested = False
    cuts = False
    takes = "words or a text"
    example = _SENTENCE
    example_batch = _SENTENCES
    input_tensors = (TensorInfo("text", "BYTES", (-1,)),)
    output_tensors = (TensorInfo("label", "BYTES", (-1,)),)

    def accepts(self, item: TaskInput) -> bool:
        """Accept words, or a text without a pair."""
        return isinstance(item, WordsInput) or (isinstance(item, TextInput) and item.pair is None)

    def split(self, inputs: Sequence[TaskInput], *, most_words: int) -> tuple[SplitText, ...]:
        """Split running texts into words that keep their place in the text."""
        return tuple(_split(item.text, most_words) for item in inputs if isinstance(item, TextInput))

    def render(self, index: int, item: TaskInput, prediction: Prediction, reply: ReplyFormat) -> list[Json]:
        """Return one entry per word in order, or per entity for huggingface_hub."""
        assert isinstance(item, WordsInput)
        assert isinstance(prediction, WordsPrediction)
        split = reply.split_texts[index] if reply.split_texts else SplitText("", ())
        if reply.shape == "tei":
            entries = _words(item, split, prediction, reply.function)
            return _in_place(entries, reply.sent_words[index]) if reply.sent_words else entries
        if reply.grouped:  # Hugging Face's every strategy but "none"
            return entities_of(split.text, split.words, prediction, self.spec.labels, reply.ignored)
        return _tags(split, prediction, reply)

    def inputs_of(self, tensors: Mapping[str, Texts]) -> list[TaskInput]:
        """Return a running text per row."""
        return [TextInput(text) for text in tensors["text"].elements]

    def outputs_of(
        self, inputs: Sequence[TaskInput], predictions: Sequence[Prediction], reply: ReplyFormat
    ) -> dict[str, OutputTensor]:
        """Return one tensor: per input its words, as one JSON text."""
        both = enumerate(zip(inputs, predictions, strict=True))
        texts = [
            to_json(self.render(index, item, prediction, reply)).decode()
            for index, (item, prediction) in both
        ]
        return {"label": OutputTensor("label", texts)}


def _split(text: str, most: int) -> SplitText:
    words = split_words(text, most=most + 1)
    if len(words) > most:
        raise InvalidBodyError(f"a text has more than {most} words, which no batch takes; send it in parts")
    return SplitText(text, words)


def _words(
    item: WordsInput, split: SplitText, prediction: WordsPrediction, function: ScoreFunction | None
) -> list[Json]:
    """Return every word; with its place where the server split the text."""
    scores = _best_scores(prediction, function)
    entries: list[Json] = [
        {"word": word, "label": label, "score": score}
        for word, label, score in zip(item.words, prediction.labels, scores, strict=True)
    ]
    for entry, word in zip(entries, split.words, strict=False):
        entry.update(start=word.start, end=word.end)
    return entries


def _in_place(entries: list[Json], sent: Sequence[str]) -> list[Json]:
    """Return an entry for each word that was sent, so that both can be read side by side."""
    computed = iter(entries)
    return [next(computed) if word else {"word": word, "label": _OUTSIDE, "score": 1.0} for word in sent]


def _tags(split: SplitText, prediction: WordsPrediction, reply: ReplyFormat) -> list[Json]:
    """Return Hugging Face's entries for the strategy "none": words whose label is not ignored."""
    scores = prediction.label_scores
    return [
        {
            "entity": label,
            "score": score,
            "index": i,
            "word": word.text,
            "start": word.start,
            "end": word.end,
        }
        for i, (word, label, score) in enumerate(zip(split.words, prediction.labels, scores, strict=True))
        if label not in reply.ignored
    ]


def _best_scores(prediction: WordsPrediction, function: ScoreFunction | None) -> list[float]:
    scores = scores_of(prediction, function)
    return [float(scores[word, index]) for word, index in enumerate(prediction.indices)]
