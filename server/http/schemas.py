"""Request bodies as pydantic models.

Which shape a body has is decided by its keys alone: `parameters` makes it a Hugging Face body; else `tokens`,
else `context` or `choices`; anything else is a text-embeddings-inference body.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

MOST_ELEMENTS = 50_000  # of a list; more than may wait or a batch takes
_Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _says(expected: str) -> WrapValidator:
    """Give one message instead of one for every member of a union; refuse a very long list at once."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, list) and len(value) > MOST_ELEMENTS:
            raise PydanticCustomError(
                "too_long",
                "has {found} elements and at most {most} are read; send it in parts",
                {"found": len(value), "most": MOST_ELEMENTS},
            )
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("shape", "must be {expected}", {"expected": expected}) from None

    return WrapValidator(check)


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choices(_Body):
    """One multiple-choice question."""

    context: str = Field(description="what comes before the choices")
    choices: list[str] = Field(min_length=2, description="the choices, at least two")


class TextPair(_Body):
    """A pair of texts, as Hugging Face pipelines name them."""

    text: str
    text_pair: str


_HfInputs = Annotated[
    str | TextPair | Choices | list[str] | list[TextPair] | list[Choices],
    _says("a text, {text, text_pair}, {context, choices}, or a list of one of these"),
]
_TeiInputs = Annotated[
    str | list[str] | list[list[str]] | list[Choices],
    _says("a text, [text, pair], or a batch: a list of [text], of [text, pair] or of {context, choices}"),
]
_Words = Annotated[
    list[_Word] | list[list[_Word]], _says("a list of words, none of them empty, or a list of such lists")
]


class HfParameters(_Body):
    """Parameters of huggingface_hub.InferenceClient; those that a task does not use have no effect."""

    top_k: int | None = Field(None, ge=1, description="classification: the best k labels only")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="classification: what makes scores from logits; softmax by default"
    )
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        None,
        description="tagging: `none` for one entry per word, anything else joins words to entities "
        "(labels are per word, so the strategies agree); simple by default",
    )
    ignore_labels: list[str] | None = Field(
        None, description='tagging: labels to leave out; ["O"] by default'
    )
    stride: int | None = Field(
        None, ge=0, description="accepted; windows of long texts overlap by themselves"
    )
    truncation: bool | None = Field(None, description="cut texts that are too long instead of refusing them")
    truncate: bool | None = Field(None, description="the same as `truncation`")


class HfBody(_Body):
    """Body of huggingface_hub.InferenceClient; the reply has the shape that it parses."""

    inputs: _HfInputs
    parameters: HfParameters
    options: dict[str, Any] | None = Field(None, description="accepted, without effect")


class TeiBody(_Body):
    """Body of text-embeddings-inference's /predict. A flat list of two strings is ONE pair."""

    inputs: _TeiInputs = Field(
        description="a text; [text, pair]; or a batch of such lists: [[text], [text, pair]]"
    )
    truncate: bool | None = Field(None, description="cut texts that are too long instead of refusing them")
    truncation_direction: Literal["Right", "right"] = Field("Right", description="texts are cut at the end")
    raw_scores: bool = Field(False, description="logits instead of probabilities")


class TokensBody(_Body):
    """Sentences that are already split into words, for token classification."""

    tokens: _Words = Field(description="the words of one sentence, or of several")
    truncate: bool | None = Field(None, description="accepted; long sentences become overlapping windows")
    raw_scores: bool = Field(False, description="logits instead of probabilities")


class ChoicesBody(Choices):
    """One multiple-choice question; send several as {"inputs": [...]}."""

    truncate: bool | None = Field(None, description="cut texts that are too long instead of refusing them")
    raw_scores: bool = Field(False, description="logits instead of probabilities")


class PredictManyBody(_Body):
    """Rows of many tasks."""

    inputs: list[Any] = Field(
        description="rows, each a body of POST /predict/{task} with the key `task`: the task's name"
    )


def _shape(body: object) -> str:
    keys = body.keys() if isinstance(body, dict) else set()
    if "parameters" in keys:
        return "hf"
    if "tokens" in keys:
        return "tokens"
    return "choices" if {"context", "choices"} & keys else "tei"


PredictBody = Annotated[
    Annotated[HfBody, Tag("hf")]
    | Annotated[TokensBody, Tag("tokens")]
    | Annotated[ChoicesBody, Tag("choices")]
    | Annotated[TeiBody, Tag("tei")],
    Discriminator(_shape),
]

predict_body: TypeAdapter[HfBody | TokensBody | ChoicesBody | TeiBody] = TypeAdapter(PredictBody)
