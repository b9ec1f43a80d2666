"""Store errors: from errors of the mask store and of loading to the server's own."""

from collections.abc import Mapping

import mask_store
from mask_store import BundleError, MaskStoreError
from masking import MaskingError
from server.errors import (
    ConflictError,
    InsufficientStorageError,
    InvalidBodyError,
    ServerError,
    StoreReadOnlyError,
    StoreUnreachableError,
    TaskNotFoundError,
    VersionNotFoundError,
)


def from_store(error: MaskStoreError | MaskingError) -> ServerError:
    """Return the server's error for one of the packages below it.

    Args:
        error: Raised by the store, by a bundle, or while a task was loaded from one.

    Returns:
        An error whose message is public: it names no place and no file.
    """
    if isinstance(error, BundleError | MaskingError):
        return InvalidBodyError(f"{type(error).__name__}: {error}")
    if (kind := _WITH_MESSAGE.get(type(error))) is not None:
        return kind(str(error))
    return _WITHOUT_MESSAGE.get(type(error), StoreUnreachableError)()


# Errors whose own messages a client may read, and those whose messages name places.
_WITH_MESSAGE: Mapping[type[MaskStoreError], type[ServerError]] = {
    mask_store.InvalidTaskNameError: TaskNotFoundError,
    mask_store.UnknownVersionError: VersionNotFoundError,
    mask_store.NoEarlierVersionError: ConflictError,
    mask_store.RecordError: ConflictError,
    mask_store.NotAFileError: ConflictError,
    mask_store.MissingBundleError: ConflictError,
    mask_store.DigestMismatchError: ConflictError,
    mask_store.StoreBusyError: StoreUnreachableError,
}
_WITHOUT_MESSAGE: Mapping[type[MaskStoreError], type[ServerError]] = {
    mask_store.StoreNotWritableError: StoreReadOnlyError,
    mask_store.StoreFullError: InsufficientStorageError,
}
