"""Tag schemes and entities: which tags mark entities, and the stretches of a sentence that they mark."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import Any

from masking.tasks.inputs import Word
from masking.tasks.predictions import WordsPrediction

_SCHEMES = {"IOB": "BI", "IOBES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
_BEGINS, _ENDS = frozenset("BSU"), frozenset("ELSU")
_FORMS = (
    re.compile(r"(?P<prefix>[BIESLUM])[-_](?P<type>.+)", re.IGNORECASE),
    re.compile(r"(?P<type>.+)[-_](?P<prefix>[BIESLUM])", re.IGNORECASE),
)


@dataclass(frozen=True)
class Span:
    """Neighbouring words that belong together.

    Attributes:
        label: Type of the entity, or the label that all its words have.
        start: First word.
        end: One past the last word.
    """

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class TagScheme:
    """How a task's tags mark entities.

    A tag ``B-X`` begins an entity of type ``X``, ``S-X`` and ``U-X`` are one of a single word, ``E-X`` and
    ``L-X`` end one, ``I-X`` and ``M-X`` go on. A tag that goes on without an entity of its type begins one,
    as in conlleval and in seqeval's default mode; so IOB1 and IOB2 need not be told apart.

    Attributes:
        name: ``IOB``, ``IOBES`` (also called BIOES), ``BILOU`` or ``BMES``; empty where no entity is marked.
        outside: The labels that are no entity: ``O``, or ``o``.
    """

    name: str
    outside: frozenset[str]
    _tags: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def spans(self, tags: Sequence[str]) -> list[Span]:
        """Join the words of one sentence.

        Args:
            tags: One of the task's tags for each word.

        Returns:
            Every stretch in order, those outside of entities included. Tags that are no part of the scheme,
            such as parts of speech, go on where the word before has the same one.
        """
        found: list[Span] = []
        ended = True
        for word, tag in enumerate(tags):
            prefix, label = self._tags.get(tag, ("", tag))
            if ended or prefix in _BEGINS or found[-1].label != label:
                found.append(Span(label, word, word + 1))
            else:
                found[-1] = Span(label, found[-1].start, word + 1)
            ended = prefix in _ENDS
        return found

    def entities(self, tags: Sequence[str]) -> set[Span]:
        """Return the entities of one sentence: `spans` without what is outside; none without a scheme."""
        return {span for span in self.spans(tags) if self.name and span.label not in self.outside}


@lru_cache
def tag_scheme(labels: tuple[str, ...]) -> TagScheme:
    """Recognise the tag scheme of a task's labels.

    Prefixes may be lower-case, may be set off by ``-`` or ``_``, and may stand at the end (``PER-B``).

    Args:
        labels: All labels of the task.

    Returns:
        The scheme; one without a name where a label is neither ``O`` nor a tag of the same scheme.
    """
    outside = frozenset(label for label in labels if label.upper() == "O")
    for form in _FORMS:
        found = {label: form.fullmatch(label) for label in labels if label not in outside}
        tags = {label: (one["prefix"].upper(), one["type"]) for label, one in found.items() if one}
        prefixes = {prefix for prefix, _ in tags.values()}
        if not tags or len(tags) < len(found) or not prefixes & frozenset("BISU"):
            continue
        for name, known in _SCHEMES.items():
            if prefixes <= frozenset(known):
                return TagScheme(name, outside, tags)
    return TagScheme("", outside)


@dataclass(frozen=True)
class Entity:
    """A stretch of text with one label.

    Attributes:
        label: The label without its prefix.
        score: Mean probability of its words' labels.
        start: First character.
        end: One past the last character.
    """

    label: str
    score: float
    start: int
    end: int


def group_entities(
    words: Sequence[Word], tags: Sequence[str], scores: Sequence[float], scheme: TagScheme
) -> list[Entity]:
    """Join neighbouring words to entities; see `TagScheme.spans`.

    transformers' own grouping is part of its pipelines and starts from wordpieces; this starts from words.

    Args:
        words: Words with their character offsets.
        tags: One tag per word.
        scores: Probability of each word's tag.
        scheme: Scheme of the task's tags.

    Returns:
        Every stretch in order, those outside of entities included.
    """
    return [
        Entity(
            span.label,
            fmean(scores[span.start : span.end]),
            words[span.start].start,
            words[span.end - 1].end,
        )
        for span in scheme.spans(tags)
    ]


def entities_of(
    text: str,
    words: Sequence[Word],
    prediction: WordsPrediction,
    labels: tuple[str, ...],
    ignored: Collection[str] = ("O",),
) -> list[dict[str, Any]]:
    """Return the entities of a running text as Hugging Face's pipelines do.

    Args:
        text: The text.
        words: Its words.
        prediction: One label for each of them.
        labels: All labels of the task.
        ignored: Labels that are no entities; ``O`` stands for ``o`` too.

    Returns:
        Label, score, text and place of each entity, in order.
    """
    scheme = tag_scheme(labels)
    ignored = scheme.outside.union(ignored) if "O" in ignored else ignored
    return [
        {
            "entity_group": entity.label,
            "score": entity.score,
            "word": text[entity.start : entity.end],
            "start": entity.start,
            "end": entity.end,
        }
        for entity in group_entities(words, prediction.labels, prediction.label_scores, scheme)
        if entity.label not in ignored
    ]
