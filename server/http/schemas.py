"""Request bodies as pydantic models.

Which shape a body has is decided by its keys: `tokens`, `context` or `choices` are ours; `parameters` or
`options`, or inputs of the form {"text": ...}, are Hugging Face's; others are text-embeddings-inference's,
unless the route or the client says that it is Hugging Face's.

The formats belong to others, so what their documents show is accepted: honoured, or without effect where it
changes no answer. A key that is not known is refused with those that are, so that no misspelt one is ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from server.errors import quoted


class _StopsAtFirst(FailFast):
    """Stop at the first wrong element: a long list of wrong ones must not cost an error each."""

    __hash__ = object.__hash__  # a member of a union has to have one


_Element = TypeVar("_Element")
_FIRST = _StopsAtFirst()
ListOf = Annotated[list[_Element], _FIRST]
_Word = Annotated[str, StringConstraints(strip_whitespace=True)]


def says(expected: str) -> WrapValidator:
    """Give one message instead of one for every member of a union."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("shape", "must be {expected}", {"expected": expected}) from None

    return WrapValidator(check)


def lower(value: object) -> object:
    """Return a text in lower case, anything else as it is."""
    return value.lower() if isinstance(value, str) else value


class RequestBody(BaseModel):
    """Base of bodies: immutable, and a key that is not known is refused with those that are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _knows_every_key(cls, values: Any) -> Any:
        """Refuse unknown keys with the known ones, in one message."""
        known = cls.model_fields
        if isinstance(values, dict) and (unknown := [key for key in values if key not in known]):
            facts = {"unknown": quoted(unknown), "known": ", ".join(known)}
            raise PydanticCustomError("unknown_key", "there is no {unknown}; there are: {known}", facts)
        return values


class Choices(RequestBody):
    """One multiple-choice question."""

    context: str = Field(description="what comes before the choices")
    choices: ListOf[str] = Field(min_length=2, description="the choices, at least two")


class HfText(RequestBody):
    """A text, or a pair of texts, as Hugging Face pipelines name them."""

    text: str
    text_pair: str | None = None


_HfInputs = Annotated[
    str | HfText | Choices | ListOf[str] | ListOf[HfText] | ListOf[Choices] | ListOf[ListOf[str]],
    says("a text, {text, text_pair}, {context, choices}, or a list of one of these"),
]
_TeiInputs = Annotated[
    str | Choices | ListOf[str] | ListOf[ListOf[str]] | ListOf[Choices],
    says("a text, [text, pair], or a batch: a list of [text], of [text, pair] or of {context, choices}"),
]
_Words = Annotated[
    ListOf[_Word] | ListOf[ListOf[_Word]],
    says("a list of words, or a list of such lists"),
]
_Truncation = Annotated[
    StrictBool | Literal["longest_first", "only_first", "only_second", "do_not_truncate"] | None,
    says("true, false, or one of longest_first, only_first, only_second, do_not_truncate"),
]
_Padding = Annotated[
    StrictBool | Literal["longest", "max_length", "do_not_pad"] | None,
    says("true, false, or one of longest, max_length, do_not_pad"),
]


class HfParameters(RequestBody):
    """Parameters of Hugging Face's pipelines; those that a task does not use have no effect."""

    top_k: StrictInt | None = Field(
        None, ge=1, description="classification: the best k labels only; null for all"
    )
    return_all_scores: StrictBool | None = Field(
        None, description="classification: the older way to ask for all labels, or for the best one (false)"
    )
    function_to_apply: Annotated[Literal["softmax", "sigmoid", "none"] | None, BeforeValidator(lower)] = (
        Field(
            None,
            description="classification: what makes scores from logits; by default softmax, sigmoid where a "
            "text may have several labels and in reranking, none in regression",
        )
    )
    aggregation_strategy: Annotated[
        Literal["none", "simple", "first", "average", "max"] | None, BeforeValidator(lower)
    ] = Field(
        None,
        description="tagging: `none` for one entry per word, anything else joins words to entities "
        "(labels are per word, so the strategies agree); simple by default",
    )
    grouped_entities: StrictBool | None = Field(
        None, description="tagging: the older name of the strategies simple (true) and none (false)"
    )
    ignore_subwords: StrictBool | None = Field(None, description="accepted; labels are per word")
    ignore_labels: ListOf[str] | None = Field(
        None, description='tagging: labels to leave out; ["O"] by default'
    )
    stride: StrictInt | None = Field(
        None, ge=0, description="accepted; windows of long texts overlap by themselves"
    )
    truncation: _Truncation = Field(
        None,
        description="cut texts that are too long instead of refusing them; every name but do_not_truncate is "
        "true, and of a pair the longer text is cut first",
    )
    truncate: StrictBool | None = Field(None, description="the same as `truncation`")
    max_length: StrictInt | None = Field(
        None, ge=1, description="tokens that a text is cut to, where `truncation` is on; at most the task's"
    )
    padding: _Padding = Field(None, description="accepted; rows are computed without padding")
    batch_size: StrictInt | None = Field(None, ge=1, description="accepted; batches form by themselves")

    @property
    def cuts(self) -> bool:
        """Whether long texts are to be cut."""
        return bool(self.truncate or (self.truncation and self.truncation != "do_not_truncate"))

    @property
    def most_labels(self) -> int | None:
        """How many labels are wanted; None for all."""
        return 1 if self.top_k is None and self.return_all_scores is False else self.top_k

    @property
    def groups_words(self) -> bool:
        """Whether words are to be joined to entities."""
        if self.aggregation_strategy is None:
            return self.grouped_entities is not False
        return self.aggregation_strategy != "none"


Options = Annotated[
    dict[str, Any] | None,
    Field(description="accepted, without effect (use_cache, wait_for_model): every answer is computed"),
]


class HfBody(RequestBody):
    """Body of Hugging Face's inference API; the reply has the shape that its clients parse."""

    inputs: _HfInputs
    parameters: HfParameters | None = None
    options: Options = None
    truncate: StrictBool | None = Field(None, description="the same as in `parameters`")

    @property
    def wanted(self) -> HfParameters:
        """The parameters, or their defaults."""
        return self.parameters or HfParameters()


class TeiBody(RequestBody):
    """Body of text-embeddings-inference's /predict. A flat list of two strings is ONE pair."""

    inputs: _TeiInputs = Field(
        description="a text; [text, pair]; or a batch of such lists: [[text], [text, pair]]"
    )
    truncate: StrictBool | None = Field(
        None, description="cut texts that are too long instead of refusing them"
    )
    truncation_direction: Annotated[Literal["right", "left"] | None, BeforeValidator(lower)] = Field(
        None, description="texts are cut at their end: right; left is refused where texts are to be cut"
    )
    raw_scores: StrictBool | None = Field(None, description="logits instead of probabilities")


class TokensBody(RequestBody):
    """Sentences that are already split into words, for token classification."""

    tokens: _Words = Field(description="the words of one sentence, or of several")
    truncate: StrictBool | None = Field(
        None, description="accepted; long sentences become overlapping windows"
    )
    raw_scores: StrictBool | None = Field(None, description="logits instead of probabilities")
    options: Options = None


class ChoicesBody(Choices):
    """One multiple-choice question; send several as {"inputs": [...]}."""

    truncate: StrictBool | None = Field(
        None, description="cut texts that are too long instead of refusing them"
    )
    raw_scores: StrictBool | None = Field(None, description="logits instead of probabilities")
    options: Options = None


class PredictManyBody(RequestBody):
    """Rows of many tasks."""

    inputs: Annotated[
        list[Any],
        says(
            'a list of rows such as {"task": "sentiment", "inputs": "..."}. One input goes to '
            'POST /predict/<task>, or to several tasks with the key "tasks"'
        ),
    ] = Field(
        description="rows, each a body of POST /predict/{task} with the key `task`: the task's name",
        json_schema_extra={"minItems": 1},
    )


class FanOutBody(BaseModel):
    """One body of POST /predict/{task} for several tasks: its keys, and the tasks."""

    model_config = ConfigDict(frozen=True, extra="allow")

    tasks: Annotated[
        Literal["*"] | Annotated[str, StringConstraints(pattern="^group:.")] | ListOf[str],
        says('a list of tasks\' names, "*" for every task in service, or "group:NAME"'),
    ] = Field(description='names of tasks; "*" for every task in service; or "group:NAME"')
    inputs: Any = Field(None, description="as in POST /predict/{task}; or its other keys, such as `tokens`")


PredictBody = HfBody | TokensBody | ChoicesBody | TeiBody


def validate_body(body: object, *, hugging_face: bool = False) -> PredictBody:
    """Return a body of POST /predict/{task} as the model of its shape.

    Args:
        body: The parsed JSON.
        hugging_face: Whether the client is known to be Hugging Face's.

    Raises:
        ValidationError: It is not what its shape asks for.
    """
    return _model_of(body, hugging_face).model_validate(body)


def _model_of(body: object, hugging_face: bool) -> type[PredictBody]:
    given = cast(Mapping[str, Any], body) if isinstance(body, dict) else {}
    if "tokens" in given:
        return TokensBody
    if "context" in given or "choices" in given:
        return ChoicesBody
    if hugging_face or "parameters" in given or "options" in given or _is_named(given.get("inputs")):
        return HfBody
    return TeiBody


def _is_named(inputs: object) -> bool:
    """Tell whether inputs are of the form {"text": ...}, one or a batch."""
    first = inputs[0] if isinstance(inputs, list) and inputs else inputs
    return isinstance(first, dict) and "text" in first
