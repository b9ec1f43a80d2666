"""Sequence classification over HTTP: one text, or one pair of texts, per input."""

from collections.abc import Mapping
from dataclasses import dataclass

from masking import ClassPrediction, Prediction, TaskInput, TaskSpec, TextInput
from server.http.kinds.kind import HttpKind, Json, ReplyFormat, ranked
from server.http.kinds.tensors import TensorInfo, Texts


@dataclass(frozen=True)
class _Form:
    """What tasks on one text and tasks on pairs of texts differ in."""

    takes: str
    example: Json
    example_batch: Json
    tensors: tuple[str, ...]


_TEXT = _Form(
    "one text per input",
    {"inputs": "I want my money back"},
    {"inputs": [["I want my money back"], ["thanks, it works"]]},
    ("text",),
)
_PAIR = _Form(
    "a pair of texts per input",
    {"inputs": ["A man sleeps.", "Someone is asleep."]},
    {"inputs": [["A man sleeps.", "He is awake."], ["It rains.", "It pours."]]},
    ("text", "text_pair"),
)


class SequenceClassification(HttpKind):
    """See `HttpKind`."""

    pipeline_tag = "text-classification"

    def __init__(self, spec: TaskSpec) -> None:
        """Choose the form by the spec."""
        super().__init__(spec)
        form = _PAIR if spec.pair else _TEXT
        self.takes, self.example, self.example_batch = form.takes, form.example, form.example_batch
        self.input_tensors = tuple(TensorInfo(name, "BYTES", (-1,)) for name in form.tensors)

    def accepts(self, item: TaskInput) -> bool:
        """Accept a text, or a pair where the task takes pairs."""
        return isinstance(item, TextInput) and (item.pair is not None) == self.spec.pair

    def render(self, index: int, item: TaskInput, prediction: Prediction, reply: ReplyFormat) -> list[Json]:
        """Return one entry per label, best first."""
        assert isinstance(prediction, ClassPrediction)
        return [entry for _, entry in ranked(prediction, self.spec.labels, reply)]

    def inputs_of(self, tensors: Mapping[str, Texts]) -> list[TaskInput]:
        """Return a text or a pair per row."""
        columns = [tensors[tensor.name].elements for tensor in self.input_tensors]
        return [TextInput(*row) for row in zip(*columns, strict=True)]
