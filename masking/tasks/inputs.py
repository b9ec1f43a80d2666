"""Inputs of a task before tokenising: texts, words, choices."""

import math
from dataclasses import dataclass

import regex

_WORD = regex.compile(r"(?:\p{L}\.){2,}(?!\p{L})|\S+?\b", regex.WORD)  # \b: of Unicode, not of \w
_VISIBLE = regex.compile(r"[^\s\p{M}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]")
_INVISIBLE_EDGES = regex.compile(r"^[\p{Cc}\p{Cf}]+|[\p{Cc}\p{Cf}]+$")


@dataclass(frozen=True)
class TextInput:
    """One text, or a pair of texts, to classify or to embed."""

    text: str
    pair: str | None = None

    @property
    def characters(self) -> int:
        """Characters of all its texts."""
        return len(self.text) + len(self.pair or "")

    @property
    def rows(self) -> int:
        """Token sequences that it becomes."""
        return 1


@dataclass(frozen=True)
class WordsInput:
    """One sentence, already split into words, each of which gets a label."""

    words: tuple[str, ...]

    @property
    def characters(self) -> int:
        """Characters of all its texts."""
        return sum(map(len, self.words))

    @property
    def rows(self) -> int:
        """Token sequences that it becomes at least; a long one becomes several."""
        return 1


@dataclass(frozen=True)
class ChoiceInput:
    """A context and the choices of which one continues or answers it."""

    context: str
    choices: tuple[str, ...]

    @property
    def characters(self) -> int:
        """Characters of all its texts."""
        return len(self.context) + sum(map(len, self.choices))

    @property
    def rows(self) -> int:
        """Token sequences that it becomes: one for each choice."""
        return len(self.choices)


def is_blank(text: str) -> bool:
    """Return whether a text is empty or all white space, without copying it."""
    return not text or text.isspace()


TaskInput = TextInput | WordsInput | ChoiceInput


@dataclass(frozen=True)
class Word:
    """A word of a running text: `text` is `running[start:end]`, in characters."""

    text: str
    start: int
    end: int


def split_words(text: str, *, most: float = math.inf) -> tuple[Word, ...]:
    """Split running text into words, as Unicode bounds them (UAX #29, default word boundaries).

    Marks stay with their letters, numbers and initialisms with their dots and commas. Scripts without spaces
    are split into characters, as BERT's own pre-tokenizer does for Chinese; each punctuation mark is a word.
    What shows nothing (white space, control and zero-width characters) is no word and no edge of one.

    For texts that arrive unsplit at a token-classification task. Tasks are learned on words as their training
    file splits them, so words given by the caller are better where there are any.

    Args:
        text: The text.
        most: Stop after so many words.
    """
    words: list[Word] = []
    for match in _WORD.finditer(text):
        if len(words) >= most:
            break
        found, start = match.group(), match.start()
        if not found.isalnum():
            if not is_visible(found):
                continue
            shown = _INVISIBLE_EDGES.sub("", found)
            start += found.index(shown)
            found = shown
        words.append(Word(found, start, start + len(found)))
    return tuple(words)


def is_visible(word: str) -> bool:
    """Tell whether a word shows anything: not only white space, marks, control or zero-width characters."""
    return _VISIBLE.search(word) is not None
