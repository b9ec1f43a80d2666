"""Entity F1: micro-averaged over whole entities, counted as conlleval and seqeval do.

An entity is right where its type, its first and its last word are.
"""

from collections.abc import Sequence

from masking import TagScheme


def entity_f1(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], scheme: TagScheme) -> float:
    """Compute the F1 over all entities of all sentences.

    Args:
        truth: The right tags of each sentence's words.
        predicted: The predicted ones, as many.
        scheme: How the tags mark entities.

    Returns:
        Harmonic mean of precision and recall, 0 to 1; 0 where no entity is right.
    """
    sentences = [(scheme.entities(t), scheme.entities(p)) for t, p in zip(truth, predicted, strict=True)]
    right = sum(len(true & found) for true, found in sentences)
    if not right:
        return 0.0
    precision = right / sum(len(found) for _, found in sentences)
    recall = right / sum(len(true) for true, _ in sentences)
    return 2 * precision * recall / (precision + recall)
