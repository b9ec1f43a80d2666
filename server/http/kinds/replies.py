"""Replies to predictions, as the OpenAPI document describes them; `HttpKind.render` makes them.

Where one of several models may stand, those with more keys come first: generated clients take the first that
fits.
"""

from pydantic import BaseModel, Field


class Entity(BaseModel):
    """An entity of a running text, for Hugging Face's clients."""

    entity_group: str = Field(description="its label, without prefix")
    score: float = Field(description="mean probability of its words' labels")
    word: str = Field(description="its text")
    start: int = Field(description="first character")
    end: int = Field(description="one past the last character")


class TaggedWord(BaseModel):
    """A word of a running text, for Hugging Face's clients with the aggregation strategy `none`."""

    entity: str = Field(description="its label")
    score: float
    index: int = Field(description="its place among the words")
    word: str
    start: int = Field(description="first character")
    end: int = Field(description="one past the last character")


class WordLabel(BaseModel):
    """A word and its label."""

    word: str
    label: str
    score: float
    start: int | None = Field(None, description="first character; running text only")
    end: int | None = Field(None, description="one past the last character; running text only")


class ChoiceScore(BaseModel):
    """A choice and its score."""

    label: str = Field(description="its index")
    score: float
    text: str


class LabelDecision(BaseModel):
    """A label of which a text may have several, and its score."""

    label: str
    score: float
    predicted: bool = Field(description="whether the score reaches the label's threshold")


class LabelScore(BaseModel):
    """A label and its score; of a regression the name of a value, and the value."""

    label: str
    score: float


Entry = Entity | TaggedWord | WordLabel | ChoiceScore | LabelDecision | LabelScore
Numbers = list[list[float]] | list[float]
"""Embeddings, or the cosines of one to others."""
PredictReply = list[Entry] | list[list[Entry]] | Numbers
