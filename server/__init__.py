"""Serves many tasks from one frozen encoder over HTTP.

`python -m server --base ID_OR_FOLDER --store DIR` runs it. From Python: make a service by
`build_service` from `Settings` and hand it to `create_app`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
