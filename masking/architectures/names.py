"""Names: the six linear layers and two LayerNorms of a block of BERT and its kin, by model type.

A row says more than where the layers are: that a block computes what BERT's does, attention and feed-forward
each with its residual and LayerNorm after it. `masking.inference.blocks` computes such blocks itself. An
encoder whose blocks are another thing needs no row.
"""

from dataclasses import dataclass, replace

from masking.errors import UnsupportedArchitectureError


@dataclass(frozen=True)
class LayerNames:
    """Where an architecture keeps its blocks, and the six linear layers inside one block.

    Attributes:
        blocks: Module path of the list of blocks.
        query, key, value, attention_output, intermediate, output: Paths within a block.
        attention_norm, output_norm: Likewise of the two LayerNorms, each over a sum with the residual.
        activation: The field of the configuration that names the feed-forward's activation.
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
    activation: str = "hidden_act"

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
    "camembert": _BERT,
    "electra": _BERT,
    "ernie": _BERT,
    "data2vec-text": _BERT,
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
        activation="activation",
    ),
    "mpnet": replace(
        _BERT,
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        attention_norm="attention.LayerNorm",
    ),
    "albert": LayerNames(
        blocks="encoder.albert_layer_groups",
        query="albert_layers.0.attention.query",
        key="albert_layers.0.attention.key",
        value="albert_layers.0.attention.value",
        attention_output="albert_layers.0.attention.dense",
        intermediate="albert_layers.0.ffn",
        output="albert_layers.0.ffn_output",
        attention_norm="albert_layers.0.attention.LayerNorm",
        output_norm="albert_layers.0.full_layer_layer_norm",
    ),
}


def layer_names(architecture: str) -> LayerNames:
    """Return the row of the table for a Hugging Face model type.

    Raises:
        UnsupportedArchitectureError: There is no such row.
    """
    if architecture not in LAYER_NAMES:
        known = ", ".join(sorted(LAYER_NAMES))
        raise UnsupportedArchitectureError(
            f"the six layers of a block of {architecture!r} have no names; those of these have: {known}"
        )
    return LAYER_NAMES[architecture]
