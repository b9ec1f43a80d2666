from .api import LearnOptions as LearnOptions
from .api import create_app as create_app
from .api import import_model as import_model
from .api import learn as learn
from .api import open_store as open_store
from .pipeline import Pipeline as Pipeline
from .pipeline import load as load
from .version import __version__ as __version__
