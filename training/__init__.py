"""Learning masks: from labelled examples to a task's mask, published to a store.

    options -> rows -> examples -> features -> trainer -> bundle -> store

`learn` is the whole of it as one function, ``python -m training.learn_mask`` the same as a command. The
method itself (scores, masks, heads) is in `masking`, the files it ends in are in `mask_store`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
