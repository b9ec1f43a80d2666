"""Tokenising in steps: a long text is read only as far as its row needs, and others may have a turn between.

Nothing here changes the tokenizer, so several threads may use one at a time. What cuts or refuses a text
looks at its first tokens only, or the last ones for a tokenizer that cuts left. So a window of the text is
tokenised, and a larger one as long as those tokens could still change with what follows. The tokens are those
of the whole text, unless `RowTokenizer.most_characters` hold too few, or one word of thousands of equal
characters can be cut up in several equally good ways. Of a pair in which both texts are too long the longer
one keeps a token more if their number is odd; which one that is, is estimated if both are very long.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

from tokenizers import Encoding

from masking.base import Tokenizer
from masking.errors import InputTooLongError
from masking.tasks.features import Row

Item = TypeVar("Item")
Result = TypeVar("Result")
Steps = Generator[int, None, Result]
"""Work in steps: yields after each one how many characters it read, and returns the result."""

STEP_CHARACTERS = 16_384  # a few milliseconds; a single text may be read further in one step
_OVERHEAD = 32  # characters that take as long to read as the call for a text
_LEAST_READ = 131_072
_READ_PER_TOKEN = 64
_WINDOW_PER_TOKEN = 6  # characters; a little more than a token has in most texts
_WINDOW_GROWTH = 4
_UNSETTLED = 256  # tokens at the end of a window that may change with what follows it

_configuring = Lock()


def finish(steps: Steps[Result]) -> Result:
    """Do all steps and return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def in_steps(items: Iterable[Item], characters: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Part items into lists that are a step each; `characters` are those to be read of an item."""
    step: list[Item] = []
    total = 0
    for item in items:
        size = characters(item) + _OVERHEAD
        if step and total + size > STEP_CHARACTERS:
            yield step
            step, total = [], 0
        step.append(item)
        total += size
    if step:
        yield step


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoding]:
    """Tokenise texts whole, without special tokens, truncation or padding; other threads go on meanwhile."""
    encoded: list[Encoding] = _configured(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    return encoded


def _configured(tokenizer: Tokenizer) -> Any:
    """Return the Rust tokenizer, without truncation and padding that its file or others have set."""
    backend = tokenizer.backend_tokenizer
    split = tokenizer.split_special_tokens
    if backend.truncation or backend.padding or backend.encode_special_tokens != split:
        with _configuring:
            backend.no_truncation()
            backend.no_padding()
            backend.encode_special_tokens = split
    return backend


@dataclass(frozen=True)
class _Slot:
    """A place in a row: a special token, or all tokens of a text, the first or the second."""

    text: int | None
    token: int
    segment: int


def _layout(tokenizer: Tokenizer, *, pair: bool) -> list[_Slot]:
    """Find out where the tokenizer puts special tokens, from a row of short texts."""
    (row,) = _configured(tokenizer).encode_batch([("a", "a") if pair else "a"])
    slots: list[_Slot] = []
    for text, token, segment in zip(row.sequence_ids, row.ids, row.type_ids, strict=True):
        if text is None or not slots or slots[-1].text != text:
            slots.append(_Slot(text, token, segment))
    return slots


@dataclass(eq=False, slots=True)
class _Reading:
    """A text, how far it was read, how many tokens that are, and those at the end that is kept."""

    text: str
    characters: int = 0
    tokens: int = 0
    kept: Sequence[int] = ()

    @property
    def whole(self) -> bool:
        return self.characters == len(self.text)

    @property
    def estimate(self) -> float:
        """Tokens of the whole text; exact if it was read whole."""
        return self.tokens * len(self.text) / max(1, self.characters)


def _key(text: str) -> str | int:
    """Return what tells a text from others; to hash a very long one would hold up every other thread."""
    return text if len(text) <= _LEAST_READ else id(text)


class RowTokenizer:
    """Makes rows of texts, or of pairs of texts, of at most `max_length` tokens.

    Attributes:
        most_characters: How far a text is read at most.
        shortest_row: Tokens of a row with one token of each text, special tokens included.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int, *, pair: bool) -> None:
        """Prepare for texts or for pairs.

        Args:
            tokenizer: The base's tokenizer.
            max_length: Most tokens of a row, special tokens included.
            pair: Whether a row is made of two texts.
        """
        self.most_characters = max(_LEAST_READ, _READ_PER_TOKEN * max_length)
        self._tokenizer = tokenizer
        self._from_left = tokenizer.truncation_side == "right"
        self._typed = "token_type_ids" in tokenizer.model_input_names
        self._layout = _layout(tokenizer, pair=pair)
        self._max_length = max_length
        special = int(tokenizer.num_special_tokens_to_add(pair))
        self.shortest_row = special + (2 if pair else 1)
        self._room = max(0, max_length - special)
        model = tokenizer.backend_tokenizer.model
        longest_word = getattr(model, "max_input_chars_per_word", 0)  # a longer one is one unknown token
        self._unsettled = max(_UNSETTLED, longest_word + 1)

    def rows(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool, owners: Sequence[int]
    ) -> Steps[list[tuple[Row, bool]]]:
        """Make rows; a text that is in several of them is read once, unless it is a very long one.

        Args:
            texts: The text of each row, or the two of each.
            truncate: Cut what is too long, the longer of two texts first, instead of refusing it.
            owners: Index of the input that each row belongs to, for the error.

        Returns:
            Each row, and whether it was cut.

        Raises:
            InputTooLongError: A row is too long and `truncate` is off.
        """
        readings: dict[str | int, _Reading] = {}
        made: list[tuple[Row, bool]] = []
        for step in in_steps(texts, lambda row: sum(self._next_end(_Reading(text)) for text in row)):
            fresh = {_key(text): _Reading(text) for row in step for text in row if _key(text) not in readings}
            readings |= fresh
            yield from self._read(list(fresh.values()))
            for row in step:
                parts = [readings[_key(text)] for text in row]
                if not truncate:
                    self._check(parts, owners[len(made)])
                made.append((yield from self._row(parts)))
            yield _OVERHEAD * len(step)
        return made

    def _read(self, readings: list[_Reading]) -> Steps[None]:
        """Read on until the tokens at the end that is kept can't change any more."""
        while readings:
            yield from self._read_on(readings)
            readings = [one for one in readings if not self._settled(one)]

    def _read_on(self, readings: Sequence[_Reading]) -> Steps[None]:
        """Read a window of each text, larger than the one before."""
        for step in in_steps(readings, self._next_end):
            ends = [self._next_end(one) for one in step]
            windows = [self._window(one.text, end) for one, end in zip(step, ends, strict=True)]
            encoded = encode_texts(self._tokenizer, windows)
            for one, end, encoding in zip(step, ends, encoded, strict=True):
                one.characters, one.tokens = end, len(encoding)
                one.kept = self._keep(encoding.ids, self._room)
            yield sum(ends)

    def _next_end(self, one: _Reading) -> int:
        first = _WINDOW_PER_TOKEN * (self._room + self._unsettled)
        return min(len(one.text), max(first, _WINDOW_GROWTH * one.characters), self.most_characters)

    def _window(self, text: str, size: int) -> str:
        """Return the part of the text at the end that is kept; it never breaks a run of white space."""
        if size == len(text):
            return text
        return text[:size].rstrip() if self._from_left else text[-size:].lstrip()

    def _keep(self, ids: Sequence[int], count: int) -> Sequence[int]:
        return ids[:count] if self._from_left else ids[len(ids) - min(count, len(ids)) :]

    def _settled(self, one: _Reading) -> bool:
        ended = one.whole or one.characters >= self.most_characters
        return ended or one.tokens > self._room + self._unsettled

    def _check(self, parts: Sequence[_Reading], owner: int) -> None:
        """Refuse a row that is too long."""
        tokens = sum(one.tokens for one in parts)
        whole = all(one.whole for one in parts)
        if tokens > self._room:
            tokens += self._max_length - self._room
            raise InputTooLongError(tokens, self._max_length, or_more=not whole, index=owner)
        if not whole:
            longest = max(len(one.text) for one in parts)
            raise InputTooLongError(longest, self.most_characters, unit="characters", index=owner)

    def _row(self, parts: Sequence[_Reading]) -> Steps[tuple[Row, bool]]:
        counts = [min(one.tokens, self._room) for one in parts]
        cut = sum(one.tokens for one in parts) > self._room or not all(one.whole for one in parts)
        if sum(counts) > self._room:
            counts = yield from self._share(*parts)
        ids: list[int] = []
        segments: list[int] = []
        kept = [self._keep(one.kept, count) for one, count in zip(parts, counts, strict=True)]
        for slot in self._layout:
            tokens = [slot.token] if slot.text is None else kept[slot.text]
            ids += tokens
            segments += [slot.segment] * len(tokens)
        return Row.of(ids, segments if self._typed else ()), cut

    def _share(self, first: _Reading, second: _Reading) -> Steps[list[int]]:
        """Return how many tokens each text of a long pair keeps, by the rule `longest_first`."""
        shorter, first_is_longer = min(first.tokens, second.tokens), first.tokens > second.tokens
        if 2 * shorter > self._room:
            shorter = self._room // 2
            if self._room % 2:  # the longer text keeps the odd token
                yield from self._measure([first, second])
                first_is_longer = first.estimate > second.estimate
        longer = self._room - shorter
        return [longer, shorter] if first_is_longer else [shorter, longer]

    def _measure(self, readings: Sequence[_Reading]) -> Steps[None]:
        """Read on, so that the tokens of texts can be compared; of very long ones they are estimated."""
        while growing := [one for one in readings if not one.whole and one.characters < STEP_CHARACTERS]:
            yield from self._read_on(growing)
