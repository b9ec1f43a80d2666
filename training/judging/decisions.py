"""Decisions: single answers beside the right ones, as which every kind of prediction is judged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from masking import (
    ChoiceInput,
    ClassPrediction,
    EmbeddingPrediction,
    LabelsPrediction,
    Prediction,
    TaskSpec,
    TextInput,
    ValuesPrediction,
    WordsInput,
    WordsPrediction,
)
from training.data.examples import Example
from training.data.features import EncodedExample
from training.kinds.reranking import RELEVANT

_LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Decision:
    """One answer beside the right one: of an example, of a word, or of one label of an example.

    Attributes:
        example: What was asked.
        truth: The right answer.
        predicted: The one that was given.
        score: Its probability; of a value how far it is from the truth.
        right: Whether it is right.
        confidence: Probability of what `happened`; None where there is none.
        happened: Whether what the confidence is of is so.
        word: The word that was asked for, where words are.
    """

    example: Example
    truth: str
    predicted: str
    score: float
    right: bool
    confidence: float | None = None
    happened: bool = False
    word: str = ""

    @property
    def text(self) -> str:
        """What was asked, in short."""
        match self.example.input:
            case TextInput(text, None):
                told = text
            case TextInput(text, pair):
                told = f"{text} | {pair}"
            case ChoiceInput(context, choices):
                told = " | ".join((context, *choices))
            case WordsInput(words):
                told = f"{self.word}: {' '.join(words)}"
        return told if len(told) <= _LONGEST_TEXT else f"{told[: _LONGEST_TEXT - 3]}..."


def decisions_of(item: EncodedExample, prediction: Prediction, spec: TaskSpec) -> Iterator[Decision]:
    """Yield the decisions of one example.

    Args:
        item: The example, with its right answer.
        prediction: The answer that was given.
        spec: The task.
    """
    match prediction:
        case ClassPrediction():
            yield _of_class(item, prediction, spec.labels)
        case WordsPrediction():
            yield from _of_words(item, prediction, spec.labels)
        case LabelsPrediction():
            yield from _of_labels(item, prediction, spec.labels)
        case ValuesPrediction():
            yield from _of_values(item, prediction, ranks=spec.kind == "reranking")
        case EmbeddingPrediction():
            yield _of_similarity(item, prediction)


def _of_class(item: EncodedExample, prediction: ClassPrediction, labels: Sequence[str]) -> Decision:
    (index,) = item.target
    truth, score = labels[index] if labels else str(index), float(prediction.scores.max())
    right = prediction.index == index
    return Decision(item.example, truth, prediction.label, score, right, score, right)


def _of_words(item: EncodedExample, prediction: WordsPrediction, labels: Sequence[str]) -> Iterator[Decision]:
    given = item.example.input
    assert isinstance(given, WordsInput)
    answers = zip(item.target, prediction.indices, prediction.label_scores, strict=True)
    for word, (truth, index, score) in zip(given.words, answers, strict=False):  # words may have been cut
        right = truth == index
        yield Decision(item.example, labels[truth], labels[index], score, right, score, right, word)


def _of_labels(
    item: EncodedExample, prediction: LabelsPrediction, labels: Sequence[str]
) -> Iterator[Decision]:
    for index, (label, truth) in enumerate(zip(labels, item.target, strict=True)):
        score, given = float(prediction.scores[index]), index in prediction.indices
        right, found = (label if one else f"not {label}" for one in (truth, given))
        sure = score if given else 1 - score
        yield Decision(item.example, right, found, sure, given == bool(truth), score, bool(truth))


def _of_values(item: EncodedExample, prediction: ValuesPrediction, *, ranks: bool) -> Iterator[Decision]:
    for truth, value in zip(item.target, map(float, prediction.scores), strict=True):
        happened = ranks and truth >= RELEVANT
        right = ranks and happened == (value >= RELEVANT)
        confidence = value if ranks else None
        distance = abs(value - truth)
        yield Decision(item.example, f"{truth:g}", f"{value:.4g}", distance, right, confidence, happened)


def _of_similarity(item: EncodedExample, prediction: EmbeddingPrediction) -> Decision:
    """Hold the cosine of a pair against its similarity; of pairs that belong together against 1."""
    (given,) = item.target
    truth, cosine = given if isinstance(given, float) else 1.0, prediction.similarity
    return Decision(item.example, f"{truth:g}", f"{cosine:.4g}", abs(cosine - truth), right=False)
