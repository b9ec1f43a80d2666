"""Mask bundles and mask stores: what a mask is on disk, and where masks live.

A task is a `MaskBundle`: the bits that say which weights of a pretrained encoder it keeps, a small head, and
a `Manifest`; an ensemble holds several such sets of masks with their heads. A `MaskStore` keeps the versions
of many tasks. This is the whole public API; the modules behind it may change. It needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
