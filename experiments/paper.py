"""What the paper itself says (Zhao et al., EMNLP 2020), to be set beside what is measured here.

Only what could be read is here: the counts of Table 8. The scores of the other tables could not be had, and
none is quoted from memory; their place is shown as `NOT_AVAILABLE`.
"""

NOT_AVAILABLE = "-"
NOT_AVAILABLE_NOTE = (
    'The column "paper" is for the paper\'s own scores; "-": not available to this project, see the paper '
    "(https://aclanthology.org/2020.emnlp-main.174)."
)

BERT_BASE = "bert-base-uncased"
TABLE_8: dict[str, dict[str, str]] = {
    BERT_BASE: {
        "base": "109,482,240 parameters, 437,928.96 KB",
        "masks": "71,368,704 bits, 8,921.088 KB",
        "classifier": "1,536 bits, 0.192 KB",
    },
    "distilbert-base-uncased": {"masks": "28,901,376 bits, 3,612.672 KB"},
}
"""By base and part of the memory. KB are decimal."""
