"""Multiple choice over HTTP: a context and choices per input; a label is the index of a choice."""

from collections.abc import Mapping

from masking import ChoiceInput, ClassPrediction, Prediction, TaskInput
from server.http.kinds.kind import HttpKind, Json, ReplyFormat, ranked
from server.http.kinds.tensors import TensorInfo, Texts

_QUESTION: Json = {"context": "She opened the door and", "choices": ["walked in.", "ate the roof."]}
_QUESTIONS: Json = {"inputs": [_QUESTION]}


class MultipleChoice(HttpKind):
    """See `HttpKind`."""

    pipeline_tag = "multiple-choice"
    takes = "a context and choices"
    example = _QUESTION
    example_batch = _QUESTIONS
    input_tensors = (TensorInfo("context", "BYTES", (-1,)), TensorInfo("choices", "BYTES", (-1, -1)))

    def accepts(self, item: TaskInput) -> bool:
        """Accept a context with choices."""
        return isinstance(item, ChoiceInput)

    def render(self, index: int, item: TaskInput, prediction: Prediction, reply: ReplyFormat) -> list[Json]:
        """Return one entry per choice with its text, best first."""
        assert isinstance(item, ChoiceInput)
        assert isinstance(prediction, ClassPrediction)
        names = [str(i) for i in range(len(item.choices))]
        return [{**entry, "text": item.choices[i]} for i, entry in ranked(prediction, names, reply)]

    def inputs_of(self, tensors: Mapping[str, Texts]) -> list[TaskInput]:
        """Return a context with its row of choices per row."""
        contexts, choices = tensors["context"].elements, tensors["choices"]
        width = choices.shape[1]
        return [
            ChoiceInput(context, choices.elements[row * width : (row + 1) * width])
            for row, context in enumerate(contexts)
        ]
