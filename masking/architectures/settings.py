"""Settings: the fields of a configuration that change what an encoder computes from weights and tokens.

Fields that leave a trace in the shapes of the weights are not among them, nor those of heads and training.
Architectures with a row have just the fields that it names. Others have every field whose value is not their
class's own, so that fields which a later release of transformers adds change no identity.
"""

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

_BERT = ("hidden_act", "layer_norm_eps", "num_attention_heads")
_ROTARY = ("num_attention_heads", "rope_parameters")
_RELATIVE = (
    *_BERT,
    "max_position_embeddings",
    "max_relative_positions",
    "norm_rel_ebd",
    "pos_att_type",
    "position_biased_input",
    "position_buckets",
    "relative_attention",
    "share_att_key",
)

COMPUTED_SETTINGS: dict[str, tuple[str, ...]] = {
    "bert": _BERT,
    "roberta": (*_BERT, "pad_token_id"),
    "xlm-roberta": (*_BERT, "pad_token_id"),
    "camembert": (*_BERT, "pad_token_id"),
    "electra": _BERT,
    "ernie": (*_BERT, "use_task_id"),
    "data2vec-text": (*_BERT, "pad_token_id"),
    "distilbert": ("activation", "n_heads"),
    "mpnet": _BERT,
    "albert": (*_BERT, "num_hidden_layers"),
    "deberta-v2": _RELATIVE,
    "modernbert": (*_ROTARY, "hidden_activation", "layer_types", "norm_eps", "sliding_window"),
    "eurobert": (*_ROTARY, "hidden_act", "num_key_value_heads", "rms_norm_eps"),
    "nomic_bert": (*_ROTARY, "hidden_act", "layer_norm_eps"),
    "gte": (*_ROTARY, "hidden_act", "layer_norm_eps"),
}

_WITHOUT_EFFECT = ("auto_map", "classifier", "dropout", "initializer", "pooler", "summary", "use_cache")


def computed_settings(config: PretrainedConfig) -> Mapping[str, Any]:
    """Return the fields of a configuration that decide what the encoder computes, by name, as JSON values."""
    names = COMPUTED_SETTINGS.get(config.model_type)
    if names is not None:
        return {name: getattr(config, name, None) for name in names}
    own, default = config.to_dict(), type(config)().to_dict()
    of_all = PretrainedConfig().to_dict().keys() - {"pad_token_id"}
    return {
        name: value
        for name, value in own.items()
        if name not in of_all
        and not name.startswith("_")
        and not any(part in name for part in _WITHOUT_EFFECT)
        and value != default.get(name)
    }
