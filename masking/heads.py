"""From the encoder's last hidden state to logits: pooler W_P and classifier W_T (paper, section 3).

One head for every architecture: [CLS] through W_P and tanh, then W_T; token classification applies W_T
to every token and has no pooler. The same arithmetic serves learning and serving, which differ only in
how they apply a linear layer; that is passed in.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mask_store import TaskKind

POOLER = "pooler.dense"
CLASSIFIER = "classifier"
_STANDARD_DEVIATION = 0.02

Linear = Callable[[Tensor], Tensor]


def has_pooler(kind: TaskKind) -> bool:
    """Whether tasks of this kind read [CLS] through the pooler."""
    return kind != "token-classification"


def head_logits(
    kind: TaskKind, hidden: Tensor, pooler: Linear, classifier: Linear, dropout: Linear
) -> Tensor:
    """Logits from the encoder's output.

    Args:
        kind: Kind of task.
        hidden: float32 [rows, tokens, hidden].
        pooler: Applies W_P and its bias to [rows, hidden].
        classifier: Applies W_T and its bias to [..., hidden].
        dropout: Applied before the classifier; the identity outside training.

    Returns:
        [rows, tokens, labels] for token classification, otherwise [rows, labels] ([rows, 1] for
        multiple choice).
    """
    features = torch.tanh(pooler(hidden[:, 0])) if has_pooler(kind) else hidden
    return classifier(dropout(features))


def random_linear(rows: int, columns: int, generator: torch.Generator) -> nn.Linear:
    """A frozen random layer: weight N(0, 0.02), bias 0 (paper, section 4).

    Args:
        rows: Output features.
        columns: Input features.
        generator: CPU generator that the weight is drawn from.
    """
    linear = nn.Linear(columns, rows)
    with torch.no_grad():
        linear.weight.normal_(0.0, _STANDARD_DEVIATION, generator=generator)
        linear.bias.zero_()
    return linear.requires_grad_(False)
