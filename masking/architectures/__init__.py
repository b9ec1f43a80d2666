"""Architectures: the blocks of an encoder, the linear layers in them that masks apply to, and its settings.

What is masked is fixed by the paper (sections 3.1 to 3.3): the linear layers of a block, W_Q, W_K, W_V, W_AO,
W_I and W_O in BERT; never embeddings, biases or LayerNorm. `find_blocks` finds them in any encoder: BERT and
its kin have a row of names, all others are found by computing a few tokens. The pooler and the classifier
belong to the head (`masking.heads`); `masking.architectures.heads` knows where the classes of transformers
have them.
"""

from masking.architectures.blocks import Blocks, find_blocks, row_embeddings
from masking.architectures.heads import learned_activation
from masking.architectures.names import LAYER_NAMES, LayerNames, layer_names
from masking.architectures.settings import COMPUTED_SETTINGS, computed_settings
from masking.architectures.support import check_architecture, check_encoder_config, own_class

__all__ = [
    "COMPUTED_SETTINGS",
    "LAYER_NAMES",
    "Blocks",
    "LayerNames",
    "check_architecture",
    "check_encoder_config",
    "computed_settings",
    "find_blocks",
    "layer_names",
    "learned_activation",
    "own_class",
    "row_embeddings",
]
