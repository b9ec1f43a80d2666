"""Bodies of embedding tasks, as huggingface_hub and text-embeddings-inference send them.

What is too long is cut, unless the client asks for a refusal.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt

from masking import TaskInput, TaskSpec, TextInput
from server.errors import InvalidBodyError
from server.http.kinds.kind import KindBody, ReplyFormat
from server.http.schemas import ListOf, Options, RequestBody, lower, says


class EmbedParameters(RequestBody):
    """What a client may say about embeddings."""

    normalize: StrictBool | None = Field(None, description="make embeddings of length 1 (true)")
    truncate: StrictBool | None = Field(None, description="cut texts that are too long (true)")
    truncation_direction: Annotated[Literal["right"] | None, BeforeValidator(lower)] = Field(
        None, description="texts are cut at their end: right"
    )
    dimensions: StrictInt | None = Field(
        None, description="numbers of an embedding; must be that of the encoder"
    )
    prompt_name: None = Field(None, description="there are no prompts: put one before the text")


class SimilarityTexts(RequestBody):
    """A text, and others that it is compared with."""

    source_sentence: str
    sentences: ListOf[str]


_Texts = Annotated[
    str | ListOf[str] | SimilarityTexts,
    says("a text, a list of texts, or {source_sentence, sentences} to compare them"),
]


class EmbedBody(EmbedParameters, KindBody):
    """Body of an embedding task: texts to embed, or to compare."""

    inputs: _Texts = Field(description="a text, or several; or a text and others to compare it with")
    encoding_format: Literal["float"] | None = Field(None, description="float")
    parameters: EmbedParameters | None = Field(None, description="the other keys may stand here, too")
    options: Options = None

    def read(self, spec: TaskSpec) -> list[TaskInput]:
        """Return the texts; see `KindBody`."""
        for part in (self, self.parameters or self):
            check_dimensions(part.dimensions, spec)
        given = self.inputs
        if isinstance(given, SimilarityTexts):
            given = [given.source_sentence, *given.sentences] if given.sentences else []
        return [TextInput(text) for text in ([given] if isinstance(given, str) else given)]

    @property
    def cuts(self) -> bool:
        """Whether long texts are cut."""
        return self.truncate is not False and (self.parameters or self).truncate is not False

    @property
    def reply(self) -> ReplyFormat:
        """How the reply is to look."""
        raw = self.normalize is False or (self.parameters or self).normalize is False
        compared = isinstance(self.inputs, SimilarityTexts)
        return ReplyFormat("tei", batched=True, function="none" if raw else None, compared=compared)


def check_dimensions(dimensions: int | None, spec: TaskSpec) -> None:
    """Refuse another number of dimensions than embeddings have.

    Raises:
        InvalidBodyError: Names both.
    """
    if dimensions is not None and dimensions != spec.width:
        raise InvalidBodyError(f"dimensions: {dimensions}; embeddings of this task have {spec.width}")
