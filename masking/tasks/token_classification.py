"""Token classification: one label per word, read at the word's LAST wordpiece (paper, section 4).

An imported copy may have been finetuned to be read at the first. Every word gets a label. An input longer
than one row becomes overlapping windows cut between words, and a word that lies in two windows is read where
it has more context on its poorer side.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from masking.base import Tokenizer
from masking.errors import EmptyInputError, InputTooLargeError, TaskInputError
from masking.tasks.codec import NO_LIMITS, InputLimits, ModelKind, TaskCodec
from masking.tasks.features import Features, Row
from masking.tasks.inputs import TaskInput, WordsInput
from masking.tasks.predictions import Floats, WordsPrediction, softmax
from masking.tasks.spec import TaskSpec
from masking.tasks.tokenizing import Steps, encode_texts, finish, in_steps

_OVERLAP_SHARE = 0.25  # of its wordpieces a window shares at most with the one before it
_SPECIAL_TOKENS = 2  # [CLS] and [SEP]
_LONGEST_WORD = 8192  # characters


class WordsCodec(TaskCodec):
    """Codec of token classification; see `TaskCodec`."""

    def __init__(self, spec: TaskSpec, tokenizer: Tokenizer) -> None:
        """Keep the task's spec and the base's tokenizer."""
        self.spec = spec
        self._tokenizer = tokenizer
        self._capacity = spec.max_length - _SPECIAL_TOKENS
        self._typed = "token_type_ids" in tokenizer.model_input_names

    @property
    def shortest_row(self) -> int:
        """See `TaskCodec.shortest_row`."""
        return _SPECIAL_TOKENS + 1

    def encode_steps(
        self, inputs: Sequence[TaskInput], *, truncate: bool, limits: InputLimits = NO_LIMITS
    ) -> Steps[list[Features]]:
        """Encode each window as one row; `truncate` changes nothing; see `TaskCodec.encode_steps`."""
        pieces = yield from self._spell(inputs, limits)
        features = []
        for words in pieces:
            features.append(self._features(words))
            yield len(words)
        return features

    def encode_cut(self, inputs: Sequence[TaskInput]) -> list[Features]:
        """Encode one row of each input: its first wordpieces (paper, appendix A.5).

        Args:
            inputs: Lists of words.

        Returns:
            One `Features` per input. Its `positions` are those of the words whose last wordpiece is in the
            row, which are the input's first ones; where it is `truncated` there are more.

        Raises:
            TaskInputError: An input is of another kind or empty; it carries the index.
        """
        return [self._cut(words) for words in finish(self._spell(inputs, NO_LIMITS))]

    def _spell(self, inputs: Sequence[TaskInput], limits: InputLimits) -> Steps[list[list[Sequence[int]]]]:
        """Tokenise in steps; returns the wordpieces of each word of each input, at least one a word."""
        sentences = [self._checked(item, index, limits).words for index, item in enumerate(inputs)]
        unknown = [int(self._tokenizer.unk_token_id or 0)]
        pieces: list[list[Sequence[int]]] = [[] for _ in sentences]
        tokens = [0] * len(sentences)
        spelled = _spelled(sentences, first=self.spec.word_piece == "first")
        for step in in_steps(spelled, lambda word: len(word[1])):
            encoded = encode_texts(self._tokenizer, [word for _, word in step])
            for (index, _), encoding in zip(step, encoded, strict=True):
                pieces[index].append(encoding.ids or unknown)
                tokens[index] += min(len(pieces[index][-1]), self._capacity)
                if tokens[index] > limits.tokens:
                    raise InputTooLargeError(tokens[index], limits.tokens, unit="tokens", index=index)
            yield sum(len(word) for _, word in step)
        return pieces

    def gather(self, features: Features, row_logits: Sequence[Floats]) -> Floats:
        """Return the logits at the wordpiece of each word that is read: float32 [words, labels]."""
        return np.stack([row_logits[row][token] for row, token in features.positions])

    def decode(self, logits: Floats) -> WordsPrediction:
        """Return the best label of each word of float32 [words, labels]."""
        indices = tuple(int(index) for index in logits.argmax(axis=-1))
        labels = tuple(self.spec.labels[index] for index in indices)
        return WordsPrediction(labels, indices, logits, softmax(logits))

    def _features(self, words: list[Sequence[int]]) -> Features:
        first = self.spec.word_piece == "first"
        kept = [pieces[: self._capacity] if first else pieces[-self._capacity :] for pieces in words]
        windows = plan_windows([len(pieces) for pieces in kept], self._capacity)
        rows = tuple(self._row(kept[start:end]) for start, end in windows)
        cut = any(len(pieces) > self._capacity for pieces in words)
        places = read_positions([len(pieces) for pieces in kept], windows)
        if first:
            places = tuple(
                (row, token - len(own) + 1) for (row, token), own in zip(places, kept, strict=True)
            )
        return Features(rows, places, cut)

    def _cut(self, words: list[Sequence[int]]) -> Features:
        ends = list(accumulate(len(pieces) for pieces in words))
        first = [piece for pieces in words[: self._capacity] for piece in pieces][: self._capacity]
        positions = tuple((0, end) for end in ends if end <= self._capacity)
        return Features((self._row([first]),), positions, len(positions) < len(words))

    def _row(self, words: list[Sequence[int]]) -> Row:
        begin, end = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        pieces = (piece for pieces in words for piece in pieces)
        ids = (int(begin), *pieces, *(() if end is None else (int(end),)))
        return Row.of(ids, (0,) * len(ids) if self._typed else ())

    def _checked(self, item: TaskInput, index: int, limits: InputLimits) -> WordsInput:
        if not isinstance(item, WordsInput):
            raise TaskInputError("this task takes a list of words per input", index=index)
        if not item.words:
            raise EmptyInputError("there are no words in the input", index=index)
        if len(item.words) > limits.tokens:  # each is a token at least
            raise InputTooLargeError(len(item.words), limits.tokens, unit="tokens", index=index)
        return item


TOKEN_CLASSIFICATION = ModelKind(
    "token-classification",
    WordsCodec,
    pooled=False,
    labelled=True,
    sample=lambda _: WordsInput(("one", "two")),
)


def _spelled(sentences: Sequence[Sequence[str]], *, first: bool) -> Iterator[tuple[int, str]]:
    """Yield the words of all sentences as the tokenizer is to read them, each with its sentence's index.

    A leading space makes tokenizers that see spaces treat a word as they would inside a text. The label is
    read at a word's end, or at its beginning if that is `first`, so that is what is read of a very long one.
    """
    for index, words in enumerate(sentences):
        for place, word in enumerate(words):
            part = word[:_LONGEST_WORD] if first else word[-_LONGEST_WORD:]
            yield index, f" {part}" if place else part


def plan_windows(lengths: Sequence[int], capacity: int) -> list[tuple[int, int]]:
    """Plan windows over words, as ranges [start, end) of word indices.

    A fast tokenizer's own overflowing windows may cut within a word; these never do.

    Args:
        lengths: Wordpieces of each word, none above `capacity`.
        capacity: Wordpieces that a window holds.

    Returns:
        Windows that cover every word in order; one window where all fits.
    """
    ends = [0, *accumulate(lengths)]  # ends[w]: wordpieces before word w
    shared = int(capacity * _OVERLAP_SHARE)
    windows, start = [], 0
    while True:
        end = start + 1
        while end < len(lengths) and ends[end + 1] - ends[start] <= capacity:
            end += 1
        windows.append((start, end))
        if end == len(lengths):
            return windows
        start = next(w for w in range(start + 1, end + 1) if ends[end] - ends[w] <= shared)


def read_positions(lengths: Sequence[int], windows: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Choose where each word's label is read.

    Args:
        lengths: Wordpieces of each word.
        windows: Windows over the words, as `plan_windows` gives them.

    Returns:
        For each word the window and the token of its last wordpiece, [CLS] being token 0.
    """
    ends = [0, *accumulate(lengths)]
    best: dict[int, tuple[int, tuple[int, int]]] = {}
    for number, (start, end) in enumerate(windows):
        for word in range(start, end):
            left, right = ends[word] - ends[start], ends[end] - ends[word + 1]
            context = min(left, right)
            if word not in best or context > best[word][0]:
                best[word] = (context, (number, ends[word + 1] - ends[start]))
    return tuple(best[word][1] for word in range(len(lengths)))
