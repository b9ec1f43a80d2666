"""Entities in a running text, from words and their labels."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from masking.tasks.inputs import Word
from masking.tasks.predictions import WordsPrediction


@dataclass(frozen=True)
class Entity:
    """A stretch of text with one label.

    Attributes:
        label: The label without its B- or I- prefix.
        score: Mean probability of its words' labels.
        start: First character.
        end: One past the last character.
    """

    label: str
    score: float
    start: int
    end: int


def group_entities(words: Sequence[Word], labels: Sequence[str], scores: Sequence[float]) -> list[Entity]:
    """Join neighbouring words of one label; a B- prefix begins a new entity, as in the IOB2 scheme.

    transformers' own grouping is part of its pipelines and starts from wordpieces; this starts from words.

    Labels without a prefix (part-of-speech tags, or O) continue the word before them where the label
    is the same, as Hugging Face's "simple" aggregation does.

    Args:
        words: Words with their character offsets.
        labels: One label per word.
        scores: Probability of each word's label.

    Returns:
        Every stretch in order, those labelled O included.
    """
    groups: list[tuple[str, list[int]]] = []
    for index, tag in enumerate(labels):
        begins, label = _split(tag)
        if groups and not begins and groups[-1][0] == label:
            groups[-1][1].append(index)
        else:
            groups.append((label, [index]))
    return [
        Entity(label, fmean(scores[i] for i in members), words[members[0]].start, words[members[-1]].end)
        for label, members in groups
    ]


def entities_of(
    text: str, words: Sequence[Word], prediction: WordsPrediction, ignored: Container[str] = ("O",)
) -> list[dict[str, Any]]:
    """Return the entities of a running text as Hugging Face's pipelines do.

    Args:
        text: The text.
        words: Its words.
        prediction: One label for each of them.
        ignored: Labels that are no entities.

    Returns:
        Label, score, text and place of each entity, in order.
    """
    return [
        {
            "entity_group": entity.label,
            "score": entity.score,
            "word": text[entity.start : entity.end],
            "start": entity.start,
            "end": entity.end,
        }
        for entity in group_entities(words, prediction.labels, prediction.label_scores)
        if entity.label not in ignored
    ]


def _split(tag: str) -> tuple[bool, str]:
    """Tell whether the tag begins a new entity; returns its label too."""
    prefix, dash, label = tag.partition("-")
    return (prefix == "B", label) if dash and label and prefix in ("B", "I") else (False, tag)
