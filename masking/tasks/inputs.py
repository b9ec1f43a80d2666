"""Inputs of a task before tokenising: texts, words, choices."""

import re
from dataclasses import dataclass

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class TextInput:
    """One text, or a pair of texts, to classify."""

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


def split_words(text: str) -> tuple[Word, ...]:
    """Split running text at white space, each punctuation mark a word of its own.

    For texts that arrive unsplit at a token-classification task; tasks are learned on words as
    their training file splits them, so words given by the caller are better where there are any.
    """
    return tuple(Word(match.group(), match.start(), match.end()) for match in _WORD.finditer(text))
