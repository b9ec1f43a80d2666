"""Entity F1: micro-averaged over whole entities of IOB2 tags, counted as conlleval and seqeval do.

An entity is right where its type, its first and its last word are. A tag ``I-X`` that follows no word of an
entity of type ``X`` begins one, as in conlleval; that is what a tagger that learns from subwords often gives.
"""

from collections.abc import Sequence

_Span = tuple[str, int, int]


def entity_spans(tags: Sequence[str]) -> set[_Span]:
    """Find the entities of one sentence.

    Args:
        tags: IOB2 tags, one a word: ``O``, ``B-X`` or ``I-X``.

    Returns:
        Type, first word and one past the last word of each entity.
    """
    spans: set[_Span] = set()
    kind: str | None = None
    first = 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, found = tag.partition("-")
        if prefix == "I" and found == kind:
            continue
        if kind is not None:
            spans.add((kind, first, place))
        kind, first = None if tag == "O" else found, place
    return spans


def entity_f1(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Compute the F1 over all entities of all sentences.

    Args:
        truth: The right IOB2 tags of each sentence's words.
        predicted: The predicted ones, as many.

    Returns:
        Harmonic mean of precision and recall, 0 to 1; 0 where no entity is right.
    """
    sentences = [(entity_spans(t), entity_spans(p)) for t, p in zip(truth, predicted, strict=True)]
    right = sum(len(true & found) for true, found in sentences)
    if not right:
        return 0.0
    precision = right / sum(len(found) for _, found in sentences)
    recall = right / sum(len(true) for true, _ in sentences)
    return 2 * precision * recall / (precision + recall)
