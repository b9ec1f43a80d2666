"""Quotes: the paper's own numbers (Zhao et al., EMNLP 2020), shown next to those measured here.

Only what could be read is here: the counts of Table 8. The scores of the other tables could not be had, and
none is quoted from memory; their place in a table is shown as `NOT_AVAILABLE`. To add one, add a line.
"""

NOT_AVAILABLE = "-"
NOT_AVAILABLE_NOTE = (
    'Columns "paper" are for the paper\'s own scores; "-": not available to this project, see '
    "https://aclanthology.org/2020.emnlp-main.174."
)

QUOTES: dict[tuple[str, ...], str] = {
    ("table8", "bert-base-uncased", "base"): "109,482,240 parameters, 437,928.96 KB",
    ("table8", "bert-base-uncased", "masks"): "71,368,704 bits, 8,921.088 KB",
    ("table8", "bert-base-uncased", "classifier"): "1,536 bits, 0.192 KB",
    ("table8", "distilbert-base-uncased", "masks"): "28,901,376 bits, 3,612.672 KB",
}
"""By table, base and the table's own keys, such as task and method. KB are decimal."""


def quote(*place: str) -> str:
    """Return what the paper says at a place, or `NOT_AVAILABLE`."""
    return QUOTES.get(place, NOT_AVAILABLE)
