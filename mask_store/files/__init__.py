"""Store files: the few operations that a store needs of the place where it lies."""

from mask_store.files.local import LOCK_SECONDS, LocalFiles
from mask_store.files.protocol import STALE_SECONDS, Files
from mask_store.files.remote import RemoteFiles

__all__ = ["LOCK_SECONDS", "STALE_SECONDS", "Files", "LocalFiles", "RemoteFiles"]
