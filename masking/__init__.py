"""The masking method on a live model: load a frozen base, learn masks over it, run masks over it.

Implements Zhao et al., "Masking as an Efficient Alternative to Finetuning for Pretrained Language
Models" (EMNLP 2020).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
