from .build import build_service as build_service
from .http.app import create_app as create_app
from .service import Service as Service
from .settings import Settings as Settings
from .settings import load_settings as load_settings
