"""Support: which model types can be a base, told from the configuration, before weights are read."""

from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers import __version__ as _release
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from masking.errors import UnsupportedArchitectureError


def check_architecture(architecture: str) -> None:
    """Refuse a model type that transformers itself has no class for, and encoders with a decoder.

    Raises:
        UnsupportedArchitectureError: With the reason.
    """
    if architecture not in CONFIG_MAPPING or architecture not in MODEL_MAPPING_NAMES:
        raise UnsupportedArchitectureError(
            f"transformers {_release} has no model of type {architecture!r}, and code that comes with a "
            "model is never run"
        )
    if architecture in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise UnsupportedArchitectureError(f"{architecture!r} is an encoder with a decoder, not an encoder")


def check_encoder_config(config: PretrainedConfig) -> None:
    """Refuse a decoder, whose first token sees no other.

    Raises:
        UnsupportedArchitectureError: With the reason.
    """
    architecture = config.model_type
    decoder = (
        architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and architecture not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    if decoder and not getattr(config, "use_bidirectional_attention", False):
        raise UnsupportedArchitectureError(f"{architecture!r} is a decoder, not an encoder")


def own_class(config: PretrainedConfig) -> str | None:
    """Return the name of the class that a model brings code for, where it is not transformers' own."""
    auto_map: Any = getattr(config, "auto_map", None)
    named = auto_map.get("AutoModel") if isinstance(auto_map, dict) else None
    if named is None:
        return None
    name = str(named).rpartition(".")[2]
    known = MODEL_MAPPING_NAMES.get(config.model_type, ())
    return None if name in ((known,) if isinstance(known, str) else known) else name
