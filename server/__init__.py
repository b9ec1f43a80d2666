"""Serves many tasks from one frozen encoder over HTTP.

`python -m server --base ID_OR_FOLDER --store DIR` runs it. From Python: build a `Service` from `Settings` and
hand it to `create_app`.
"""

from server.http.app import create_app
from server.service import Service
from server.settings import Settings, load_settings

__all__ = ["Service", "Settings", "create_app", "load_settings"]
