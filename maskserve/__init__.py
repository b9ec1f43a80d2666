"""Maskserve: many tasks from one pretrained encoder, each a one-bit mask over its weights.

    tasks = maskserve.load("bert-base-uncased", store="masks")
    tasks("sentiment", "what a great film")
    tasks.batch([("sentiment", "bad"), ("names", "Anna left.")])

`learn` learns a task and publishes it, `create_app` makes the HTTP server as an ASGI application, and the
command `maskserve` does the same from a shell.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
