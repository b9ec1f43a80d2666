"""Entities of a running text, beside those of transformers' own pipeline for the same words."""

import re
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.pipelines.token_classification import TokenClassificationPipeline

from masking import Word, WordsPrediction, entities_of

WORDS = ("anna", "works", "for", "acme", "in", "new", "york")
TEXT = " ".join(WORDS)
PLACES = tuple(Word(match.group(), match.start(), match.end()) for match in re.finditer(r"\w+", TEXT))
IOB = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG")
RAW = ("O", "PER", "ORG")


class _Plain:
    """The only part of a tokenizer that grouping uses."""

    @staticmethod
    def convert_tokens_to_string(tokens: list[str]) -> str:
        return " ".join(tokens)


def _theirs(tags: tuple[str, ...], scores: list[float]) -> list[dict[str, Any]]:
    pipeline = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    pipeline.tokenizer = cast(Any, _Plain())
    words = [
        {
            "entity": tag,
            "score": score,
            "index": number,
            "word": word.text,
            "start": word.start,
            "end": word.end,
        }
        for number, (word, tag, score) in enumerate(zip(PLACES, tags, scores, strict=True))
    ]
    return [group for group in pipeline.group_entities(words) if group["entity_group"] != "O"]


def _ours(labels: tuple[str, ...], tags: tuple[str, ...], scores: list[float]) -> list[dict[str, Any]]:
    indices = tuple(labels.index(tag) for tag in tags)
    table = np.zeros((len(tags), len(labels)), np.float32)
    table[range(len(tags)), indices] = scores
    return entities_of(TEXT, PLACES, WordsPrediction(tags, indices, table, table), labels)


@pytest.mark.parametrize("labels", [IOB, RAW])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_words_are_grouped_as_by_the_pipeline_of_transformers(labels: tuple[str, ...], data: Any) -> None:
    tags = tuple(data.draw(st.lists(st.sampled_from(labels), min_size=len(WORDS), max_size=len(WORDS))))
    scores = data.draw(st.lists(st.sampled_from([0.25, 0.5, 0.75]), min_size=len(WORDS), max_size=len(WORDS)))
    ours, theirs = _ours(labels, tags, scores), _theirs(tags, scores)
    assert [{**one, "score": 0} for one in ours] == [{**one, "score": 0} for one in theirs]
    assert [one["score"] for one in ours] == pytest.approx([float(one["score"]) for one in theirs])
