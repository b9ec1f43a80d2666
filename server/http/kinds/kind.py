"""Kind of task over HTTP: the interface, and how replies show scores."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from masking import (
    ClassPrediction,
    Prediction,
    ScoresPrediction,
    TaskInput,
    TaskSpec,
    Word,
    WordsPrediction,
)
from masking.tasks.predictions import Floats, sigmoid, softmax
from server.http.kinds.tensors import OutputTensor, TensorInfo, Texts
from server.http.schemas import RequestBody

ScoreFunction = Literal["softmax", "sigmoid", "none"]
Json = dict[str, Any]


@dataclass(frozen=True)
class SplitText:
    """A running text, and the words that the server split it into."""

    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class ReplyFormat:
    """How the reply is to look.

    Attributes:
        shape: "hf" for huggingface_hub, "tei" for everyone else.
        batched: The body held a batch: answer with a list, even for one input.
        function: What makes scores from logits; None for what the kind of task does.
        top_k: The best k classes only; None for all.
        ignored: Labels left out of entities.
        grouped: Join words to entities.
        split_texts: Per input the text that its words came from; empty where the client sent words.
        sent_words: Per input the words that the client sent, those of white space too; empty for texts.
        compared: Of embeddings, how similar the first input is to each other one.
    """

    shape: Literal["hf", "tei"]
    batched: bool
    function: ScoreFunction | None = None
    top_k: int | None = None
    ignored: frozenset[str] = frozenset({"O"})
    grouped: bool = True
    split_texts: tuple[SplitText, ...] = ()
    sent_words: tuple[tuple[str, ...], ...] = ()
    compared: bool = False


class KindBody(RequestBody, ABC):
    """Body that one kind of task takes, and no other."""

    @abstractmethod
    def read(self, spec: TaskSpec) -> list[TaskInput]:
        """Return the inputs.

        Raises:
            InvalidBodyError: The task can't do what is asked for.
        """

    @property
    @abstractmethod
    def cuts(self) -> bool:
        """Whether long texts are cut."""

    @property
    @abstractmethod
    def reply(self) -> ReplyFormat:
        """How the reply is to look."""


class HttpKind(ABC):
    """What HTTP has to know of one kind of task; made for a task's spec.

    Attributes:
        takes: What an input is, in words.
        example: A body with one input.
        example_batch: A body with several.
        input_tensors: Its inputs in the Open Inference Protocol, all of which it needs.
        pipeline_tag: Its name at Hugging Face.
        model_type: What text-embeddings-inference calls such a model.
        nested: Whether a reply to huggingface_hub is a list of lists even for one input.
        cuts: Whether long texts can be cut.
        body: Body that only this kind takes; None for those that others take, too.
    """

    takes: str
    example: Json
    example_batch: Json
    input_tensors: tuple[TensorInfo, ...]
    pipeline_tag: ClassVar[str]
    model_type: ClassVar[str] = "classifier"
    nested: ClassVar[bool] = True
    cuts: ClassVar[bool] = True
    body: ClassVar[type[KindBody] | None] = None

    def __init__(self, spec: TaskSpec) -> None:
        """Keep the task's spec."""
        self.spec = spec

    @abstractmethod
    def accepts(self, item: TaskInput) -> bool:
        """Return whether an input is of the form that the task takes."""

    def split(self, inputs: Sequence[TaskInput], *, most_words: int) -> tuple[SplitText, ...]:
        """Split running texts into words, for a kind that takes words; empty where nothing is split.

        Raises:
            InvalidBodyError: A text has more words than `most_words`.
        """
        return ()

    def reply(
        self, inputs: Sequence[TaskInput], predictions: Sequence[Prediction], reply: ReplyFormat
    ) -> list[Any]:
        """Return the answers to all inputs of a request, or of the only one its entries.

        Args:
            inputs: The inputs.
            predictions: One for each.
            reply: How the reply is to look.
        """
        answers = [
            self.render(index, item, prediction, reply)
            for index, (item, prediction) in enumerate(zip(inputs, predictions, strict=True))
        ]
        nested = reply.shape == "hf" and self.nested
        return answers if reply.batched or nested else answers[0]

    @abstractmethod
    def render(self, index: int, item: TaskInput, prediction: Prediction, reply: ReplyFormat) -> list[Json]:
        """Return the entries that answer one input.

        Args:
            index: Place of the input in the request.
            item: The input.
            prediction: What was predicted for it.
            reply: How the reply is to look.
        """

    @property
    def output_tensors(self) -> tuple[TensorInfo, ...]:
        """Its outputs in the Open Inference Protocol."""
        return (
            TensorInfo("label", "BYTES", (-1,)),
            TensorInfo("scores", "FP32", (-1, len(self.spec.labels) or -1)),
        )

    @abstractmethod
    def inputs_of(self, tensors: Mapping[str, Texts]) -> list[TaskInput]:
        """Return the task's inputs, one per row of its input tensors."""

    def outputs_of(
        self, inputs: Sequence[TaskInput], predictions: Sequence[Prediction], reply: ReplyFormat
    ) -> dict[str, OutputTensor]:
        """Return the output tensors by name, with one row per input."""
        found = [prediction for prediction in predictions if isinstance(prediction, ClassPrediction)]
        scores = np.stack([scores_of(prediction, reply.function) for prediction in found])
        labels = [prediction.label for prediction in found]
        return {"label": OutputTensor("label", labels), "scores": OutputTensor("scores", scores)}


def scores_of(prediction: ScoresPrediction | WordsPrediction, function: ScoreFunction | None) -> Floats:
    """Return what the function makes of the logits: float32 of their shape; None: what the kind makes."""
    if function is None:
        return prediction.scores
    return _FUNCTIONS[function](prediction.logits)


def ranked(prediction: ScoresPrediction, names: Sequence[str], reply: ReplyFormat) -> list[tuple[int, Json]]:
    """Return index, score and name of every class, or of the best k, best first."""
    scores = scores_of(prediction, reply.function)
    best = prediction.ranking[: reply.top_k]
    return [(i, {"score": float(scores[i]), "label": names[i]}) for i in best]


_FUNCTIONS: Mapping[ScoreFunction, Callable[[Floats], Floats]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "none": lambda logits: logits,
}
