"""Architectures: names of the linear layers that a mask applies to, for each supported architecture.

One row per Hugging Face model type in each of the two tables. To support another BERT-like encoder, add its
rows. What is masked is fixed by the paper (sections 3.1 to 3.3): per block W_Q, W_K, W_V, W_AO, W_I, W_O;
never embeddings, biases or LayerNorm. The pooler and the classifier are not listed: they belong to the head
(`masking.heads`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from masking.errors import UnknownLayerError, UnsupportedArchitectureError


@dataclass(frozen=True)
class LayerNames:
    """Where an architecture keeps its blocks, and the six linear layers inside one block.

    Attributes:
        blocks: Module path of the list of blocks.
        query, key, value, attention_output, intermediate, output: Paths within a block.
        attention_norm, output_norm: Likewise of the two LayerNorms, each over a sum with the residual.
    """

    blocks: str
    query: str
    key: str
    value: str
    attention_output: str
    intermediate: str
    output: str
    attention_norm: str
    output_norm: str

    def in_block(self, block: int) -> tuple[str, ...]:
        """Return the full names of the six linear layers of one block, in the order of the computation."""
        six = (self.query, self.key, self.value, self.attention_output, self.intermediate, self.output)
        return tuple(f"{self.blocks}.{block}.{name}" for name in six)


_BERT = LayerNames(
    blocks="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    intermediate="intermediate.dense",
    output="output.dense",
    attention_norm="attention.output.LayerNorm",
    output_norm="output.LayerNorm",
)

LAYER_NAMES: dict[str, LayerNames] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "distilbert": LayerNames(
        blocks="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        intermediate="ffn.lin1",
        output="ffn.lin2",
        attention_norm="sa_layer_norm",
        output_norm="output_layer_norm",
    ),
    "mpnet": LayerNames(
        blocks="encoder.layer",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        intermediate="intermediate.dense",
        output="output.dense",
        attention_norm="attention.LayerNorm",
        output_norm="output.LayerNorm",
    ),
}

_BERT_SETTINGS = ("hidden_act", "layer_norm_eps", "num_attention_heads")

# Fields of the configuration that change the computation and leave no trace in the shapes of the weights.
COMPUTED_SETTINGS: dict[str, tuple[str, ...]] = {
    "bert": _BERT_SETTINGS,
    "roberta": (*_BERT_SETTINGS, "pad_token_id"),
    "xlm-roberta": (*_BERT_SETTINGS, "pad_token_id"),
    "electra": _BERT_SETTINGS,
    "distilbert": ("activation", "n_heads"),
    "mpnet": _BERT_SETTINGS,
}


def layer_names(architecture: str) -> LayerNames:
    """Return the row of the table for a Hugging Face model type.

    Raises:
        UnsupportedArchitectureError: There is no such row.
    """
    if architecture not in LAYER_NAMES:
        known = ", ".join(sorted(LAYER_NAMES))
        raise UnsupportedArchitectureError(
            f"architecture {architecture!r} is not supported; supported: {known}"
        )
    return LAYER_NAMES[architecture]


def computed_settings(architecture: str) -> tuple[str, ...]:
    """Return the fields of the configuration that decide what the encoder computes with its weights.

    Raises:
        UnsupportedArchitectureError: There is no such row.
    """
    layer_names(architecture)
    return COMPUTED_SETTINGS[architecture]


def count_blocks(encoder: nn.Module, architecture: str) -> int:
    """Count the transformer blocks of `encoder`."""
    blocks = encoder.get_submodule(layer_names(architecture).blocks)
    return sum(1 for _ in blocks.children())


def block_linears(encoder: nn.Module, architecture: str, blocks: Iterable[int]) -> dict[str, nn.Linear]:
    """Return the maskable linear layers of `blocks` by full name, in the order of the computation.

    Raises:
        UnsupportedArchitectureError: The architecture has no row in the table.
        UnknownLayerError: A name in the table matches no linear layer of this encoder.
    """
    table, linears = layer_names(architecture), _linears(encoder)
    return {name: _named(linears, name) for block in blocks for name in table.in_block(block)}


def layer_norms(encoder: nn.Module) -> dict[str, nn.LayerNorm]:
    """Return every LayerNorm of an encoder by its full name."""
    return {name: module for name, module in encoder.named_modules() if isinstance(module, nn.LayerNorm)}


def token_embeddings(encoder: nn.Module) -> dict[str, nn.Embedding]:
    """Return the embeddings of tokens, positions and segments by their full names."""
    return {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Embedding) and name.startswith("embeddings.")
    }


def _linears(encoder: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}


def _named(linears: dict[str, nn.Linear], name: str) -> nn.Linear:
    if name not in linears:
        some = ", ".join(list(linears)[:8])
        raise UnknownLayerError(f"no linear layer is called {name!r}; this encoder has {some}, ...")
    return linears[name]
