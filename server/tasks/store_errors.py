"""Store errors: from errors of the mask store and of loading to the server's own."""

from collections.abc import Mapping

import mask_store
from mask_store import BundleError, MaskStore, MaskStoreError, StoreError, UnknownTaskError
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


def refusal(store: MaskStore, name: str, error: MaskStoreError | MaskingError) -> ServerError:
    """Return the server's error for what went wrong with a task of the store.

    Args:
        store: Where the task is; one that vanished as a whole has no unknown tasks.
        name: The task.
        error: What was raised.
    """
    if not isinstance(error, UnknownTaskError):
        return from_store(error)
    try:
        store.check()
    except StoreError as gone:
        return from_store(gone)
    return TaskNotFoundError(f"the store has no task {name!r:.80}")


# Errors whose own messages a client may read, and those whose messages name places.
_WITH_MESSAGE: Mapping[type[MaskStoreError], type[ServerError]] = {
    mask_store.InvalidTaskNameError: TaskNotFoundError,
    mask_store.UnknownVersionError: VersionNotFoundError,
    mask_store.NoEarlierVersionError: ConflictError,
    mask_store.TrafficError: ConflictError,
    mask_store.HeldError: ConflictError,
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
