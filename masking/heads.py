"""Head of a task: pooler W_P and classifier W_T, from hidden states to logits (paper, section 3).

The paper's head is [CLS] through W_P and tanh, then W_T; token classification applies W_T to every token and
has no pooler; embeddings have no head: the tokens of a text are pooled. Where transformers' classifiers of an
architecture have another activation, so has the head, and of ModernBERT a W_P on every token. The same
arithmetic serves learning and serving, which differ only in how they apply a linear layer; that is passed in.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mask_store import HeadActivation, Pooling

POOLER = "pooler.dense"
CLASSIFIER = "classifier"
_STANDARD_DEVIATION = 0.02

NORM_EPSILON = 1e-5  # of the LayerNorm of "gelu-norm", whose weights are part of the classifier's

Linear = Callable[[Tensor], Tensor]


def _gelu_norm(hidden: Tensor) -> Tensor:
    activated = functional.gelu(hidden)
    return functional.layer_norm(activated, activated.shape[-1:], eps=NORM_EPSILON)


ACTIVATIONS: Mapping[HeadActivation, Linear] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "gelu-norm": _gelu_norm,
}
"""Between W_P and W_T; tanh is the paper's."""


def head_logits(
    hidden: Tensor,
    pooler: Linear | None,
    classifier: Linear,
    dropout: Linear,
    *,
    activation: HeadActivation = "tanh",
    words: bool = False,
) -> Tensor:
    """Compute logits from the encoder's output.

    Args:
        hidden: float32 [rows, tokens, hidden].
        pooler: Applies W_P and its bias to [..., hidden]; None where there is none.
        classifier: Applies W_T and its bias to [..., hidden].
        dropout: Applied before the classifier; the identity outside training.
        activation: After W_P.
        words: Whether every token has logits, and not [CLS] alone.

    Returns:
        [rows, outputs] of each row's [CLS], or of every token [rows, tokens, outputs].
    """
    features = hidden if words else hidden[:, 0]
    if pooler is not None:
        features = ACTIVATIONS[activation](pooler(features))
    return classifier(dropout(features))


def pool_tokens(tokens: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """Make an embedding of the tokens of each row.

    Args:
        tokens: float32 [tokens, hidden], those of all rows one after another, without padding.
        lengths: int64 [rows], tokens of each row.
        pooling: The mean of a row's tokens, or its first one, [CLS].

    Returns:
        float32 [rows, hidden], of any length.
    """
    if pooling == "cls":
        return tokens.index_select(0, lengths.cumsum(0) - lengths)
    owners = torch.arange(len(lengths), device=tokens.device).repeat_interleave(lengths)
    sums = tokens.new_zeros(len(lengths), tokens.shape[1]).index_add(0, owners, tokens)
    return sums / lengths.unsqueeze(1)


def random_linear(rows: int, columns: int, generator: torch.Generator) -> nn.Linear:
    """Make a frozen random layer: weight N(0, 0.02), bias 0.

    The paper says that it is random (section 3.2); the distribution is that of its authors' code.

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
