"""Colors of the figures: the same thing has the same color everywhere."""

DARK = "#333333"
MASKING = "#0b6e4f"
FINETUNING = "#d98c3f"
PRETRAINED = "#9aa5b1"
METHODS = {"masking": MASKING, "finetuning": FINETUNING, "pretrained": PRETRAINED}
SERIES = ("#0b6e4f", "#d98c3f", "#5b7db1", "#b5482e", "#6bbf8a", "#8e6bb0", "#9aa5b1", "#333333")
"""For things that have no color of their own, in this order."""
