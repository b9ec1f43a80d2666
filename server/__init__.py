"""Serves many tasks from one frozen encoder over HTTP.

`python -m server --base ID_OR_FOLDER --store DIR` runs it. From Python: make a service by
`build_service` from `Settings` and hand it to `create_app`.
"""

from server.build import build_service
from server.http.app import create_app
from server.service import Service
from server.settings import Settings, load_settings

__all__ = ["Service", "Settings", "build_service", "create_app", "load_settings"]
