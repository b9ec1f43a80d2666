"""The rule, on encoders that have no row of names: what it masks, what it leaves, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from masking import UnsupportedArchitectureError, load_base
from masking.architectures import find_blocks
from tests.support.models import tiny_base

_FUSED = ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")
_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_GATED = (*_ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
MASKED = {
    "modernbert": _FUSED,
    "eurobert": _GATED,
    "gte": _GATED,  # registered in another order than computed
    "nomic_bert": _GATED,
    "deberta": ("attention.self.in_proj", "attention.output.dense", "intermediate.dense", "output.dense"),
}


@pytest.mark.parametrize("architecture", MASKED)
def test_layers_are_found_in_the_order_of_the_computation(architecture: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, architecture))
    assert (len(base.blocks), base.blocks.known) == (3, None)
    assert base.blocks.masked_names == MASKED[architecture]
    assert tuple(base.blocks.linears(base.encoder, [2])) == tuple(
        f"{base.blocks.path}.2.{name}" for name in MASKED[architecture]
    )


@pytest.mark.parametrize("shared", [True, False])
def test_what_meets_relative_positions_stays_unmasked(shared: bool) -> None:
    blocks = find_blocks(
        _model("deberta-v2", relative_attention=True, pos_att_type=["c2p", "p2c"], share_att_key=shared)
    )
    meets = ("query_proj", "key_proj") if shared else ("pos_key_proj", "pos_query_proj")
    assert set(blocks.unmasked_names) == {f"attention.self.{name}" for name in meets}
    assert set(blocks.unmasked.values()) == {"not computed on tokens alone"}
    assert len(blocks.layers[0]) == (4 if shared else 6)


def test_a_norm_of_relative_positions_is_none_of_the_tokens() -> None:
    blocks = find_blocks(_model("deberta-v2", relative_attention=True, norm_rel_ebd="layer_norm"))
    assert "encoder.LayerNorm" not in blocks.norms
    assert "encoder.layer.1.output.LayerNorm" in blocks.norms


def _model(architecture: str, **settings: Any) -> PreTrainedModel:
    shape = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0}
    config = AutoConfig.for_model(architecture, **(shape | settings))
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModel.from_config(config).eval()
    return model


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a decoder": ("llama", {"num_key_value_heads": 2}, "is a decoder: its first token"),
    "no torch.nn.Linear": ("gpt2", {}, "no list of blocks with linear layers"),
    "more than tokens": ("xmod", {}, "not computed from tokens alone: .*language"),
    "no attention mask": ("fnet", {}, "a row that is padded in a batch"),
    "neighbours in a batch": ("convbert", {"embedding_size": 32}, "a row that is padded in a batch"),
    "tokens of its own": ("longformer", {"attention_window": [4, 4]}, "is computed token by token"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_can_not_be_masked_in_batches_is_refused(name: str) -> None:
    architecture, settings, message = REFUSED[name]
    with pytest.raises(UnsupportedArchitectureError, match=message) as raised:
        find_blocks(_model(architecture, **settings))
    assert repr(architecture) in str(raised.value)
